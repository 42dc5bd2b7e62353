"""The server that a producer's streams go to, and the credential they present."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

_CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # Pings find a server that vanished without a word. Servers allow one every five seconds.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Each stream has a connection of its own, so that a new one can reach another server.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's address, the API key to present, and how to encrypt.

    ``target`` is HOST:PORT. Nothing is encrypted if ``credentials`` is None.
    """

    target: str
    api_key: str
    credentials: grpc.ChannelCredentials | None

    def channel(self) -> grpc.aio.Channel:
        """A new channel; it connects when it is first used."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, options=_CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self.target, self.credentials, options=_CHANNEL_OPTIONS)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The request metadata of a call: the key as a bearer token."""
        return (("authorization", f"Bearer {self.api_key}"),)
