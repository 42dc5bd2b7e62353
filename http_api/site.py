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
