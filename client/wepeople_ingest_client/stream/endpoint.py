"""The server that a producer's streams go to, and the credential they present."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import grpc

from wepeople_ingest_client.stream.status import TLS_FAILED, StreamStatus
from wepeople_ingest_client.stream.tls import Tls, final_failure

_CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # Pings find a server that vanished without a word. Servers allow one every five seconds.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Each stream has a connection of its own, so that a new one can reach another server.
    ("grpc.use_local_subchannel_pool", 1),
)
# The codes of a connection that ends with its handshake. The library tries some of those again.
_PERHAPS_TLS: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's address, the API key to present, and how to encrypt.

    ``target`` is HOST:PORT. Nothing is encrypted if ``tls`` is None.
    """

    target: str
    api_key: str
    tls: Tls | None

    def channel(self) -> grpc.aio.Channel:
        """A new channel; it connects when it is first used.

        Raises OSError if a file for TLS cannot be used.
        """
        if self.tls is None:
            return grpc.aio.insecure_channel(self.target, options=_CHANNEL_OPTIONS)
        credentials = self.tls.credentials()
        return grpc.aio.secure_channel(self.target, credentials, options=_CHANNEL_OPTIONS)

    async def judge(self, status: StreamStatus) -> StreamStatus:
        """The status of a stream that was not opened, final if TLS can never succeed."""
        if status.reason or status.code not in _PERHAPS_TLS:
            return status
        failure = await final_failure(self.target, self.tls, status.message)
        return replace(status, reason=TLS_FAILED, message=failure) if failure else status

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The request metadata of a call: the key as a bearer token."""
        return (("authorization", f"Bearer {self.api_key}"),)
