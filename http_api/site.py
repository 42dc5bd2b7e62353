"""The addresses and the key that pages for people show."""

from __future__ import annotations

from typing import Final, NamedTuple

from core.access.api_keys import KEY_PREFIX

KEY_PLACEHOLDER: Final = f"{KEY_PREFIX}…"


class Site(NamedTuple):
    """Where clients reach this service, and the demo's key if there is one to show."""

    base_url: str
    grpc_target: str  # HOST:PORT
    demo_key: str | None = None
    has_grpc_tls: bool = False

    @property
    def grpcurl(self) -> str:
        """The command for :attr:`grpc_target`."""
        return grpcurl(has_tls=self.has_grpc_tls)


def grpcurl(*, has_tls: bool) -> str:
    """The command that calls a service, which has to be told if that has no TLS."""
    return "grpcurl" if has_tls else "grpcurl -plaintext"
