"""The gRPC server: its limits, keepalive, TLS, health, reflection and the servicer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import grpc
from grpc_health.v1 import health

from core.tls_files import TlsFiles
from grpc_api import wakeups
from grpc_api.accepting import Acceptor, library_handlers
from grpc_api.call import LOOKAHEAD_BYTES, MAX_RECEIVE_BYTES
from grpc_api.certificates import Certificates
from grpc_api.connections import leave_silent_to_kernel
from grpc_api.health import Health
from grpc_api.reflection import enable_reflection
from grpc_api.servicer import SERVICE, IngestServicer

MAX_CALLS: Final = 100  # at once on one connection, of which none is refused
# Of which the library tells clients, and above which it refuses calls. It counts those that have
# ended, too, until Python has let go of them, which takes some turns of the event loop.
MAX_CONCURRENT_STREAMS: Final = 2 * MAX_CALLS
# Names and values of a call's metadata. The library's other half of this bound, above which it
# refuses some calls by chance, is made the same, so that none is refused below.
MAX_METADATA_BYTES: Final = 16_384
# The library closes a connection that is one too many; strangers give way before that
# (grpc_api/connections.py).
HANDSHAKE_MS: Final = 10_000
# Without a call. Connections of strangers have none: their calls end at once.
IDLE_MS: Final = 300_000
KEEPALIVE_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
MIN_CLIENT_PING_MS: Final = 5_000
HEALTH_SECONDS: Final = 1.0
MAX_UNACCEPTED_CALLS: Final = 12_288

_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_concurrent_streams", MAX_CONCURRENT_STREAMS),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
    ("grpc.max_connection_idle_ms", IDLE_MS),
    # Otherwise the library takes megabytes of a message that nobody reads from a fast client. A
    # message that is being read it takes whole in any case.
    ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
    # Calls that wait to be accepted. From the first number on the library cancels some by chance,
    # whoever sent them.
    ("grpc.server.max_pending_requests", MAX_UNACCEPTED_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", MAX_UNACCEPTED_CALLS),
    ("grpc.http2.bdp_probe", 0),
    # Otherwise calls that have ended do not count, and those that are reset as they begin pile up.
    ("grpc.http.overload_protection", 1),
    # Pings find a client that vanished without a word.
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # The library's default is five minutes; it ends connections that ping more often.
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_CLIENT_PING_MS),
    ("grpc.keepalive_permit_without_calls", 1),
)


class GrpcServer:
    """Serves the methods of a servicer on ``address``, HOST:PORT.

    Several server processes can bind an address that is ``shared``; each gets a part of the
    connections. ``readiness`` returns None while the service is ready, otherwise the reason why it
    is not. Calls have ``drain_seconds`` to end when the server stops.
    """

    def __init__(
        self,
        servicer: IngestServicer,
        readiness: Callable[[], Awaitable[str | None]],
        *,
        address: str,
        shared: bool,
        tls: TlsFiles | None,
        drain_seconds: float,
    ) -> None:
        self._servicer = servicer
        self._readiness = readiness
        self._address = address
        self._shared = shared
        self._tls = tls
        self._certificates: Certificates | None = None
        self._drain_seconds = drain_seconds
        self._health = Health(servicer.begin_unkeyed, SERVICE)
        self._stop = asyncio.Event()

    def start(self) -> int:
        """Bind the address and return the port. Calls are answered while :meth:`serve` runs.

        Raises OSError if the address is not free, and :class:`TlsFileError`.
        """
        if self._tls is not None:
            self._certificates = Certificates(self._tls)
            self._certificates.load()
        # The library shares by default: a second server would silently take half the connections.
        options = [
            *_OPTIONS,
            ("grpc.so_reuseport", int(self._shared)),
            ("grpc.max_allowed_incoming_connections", self._servicer.connections.most),
        ]
        with wakeups.taken_together():
            self._server = grpc.aio.server(options=options)
        methods = self._servicer.methods()
        # Registered, each method has a queue of its own: a flood of one does not delay the others.
        self._server.add_registered_method_handlers(SERVICE, library_handlers(methods))
        self._acceptor = Acceptor(
            self._server,
            {f"/{SERVICE}/{name}": method for name, method in methods.items()},
            self._servicer.returns,
        )
        self._server.add_generic_rpc_handlers((self._health.handler(),))
        enable_reflection((SERVICE, health.SERVICE_NAME), self._server)
        self._server.add_generic_rpc_handlers((self._servicer.unknown_methods(),))
        try:
            port = (
                self._server.add_insecure_port(self._address)
                if self._certificates is None
                else self._server.add_secure_port(self._address, self._certificates.credentials())
            )
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}: {error}") from None
        leave_silent_to_kernel(port)
        return port

    async def serve(self) -> None:
        """Serve until :meth:`stop`, then drain.

        Draining has three steps: health becomes NOT_SERVING, streams end once the batches they have
        read are acked, and other calls end. A call that runs longer than the drain time is
        cancelled.

        Raises what ended the acceptance of calls, if that ends before.
        """
        # Before the start, so that no client hears that the service is unknown.
        self._health.set(await self._readiness() is None)
        await self._server.start()
        accepting = asyncio.create_task(self._acceptor.run())
        accepting.add_done_callback(lambda _: self.stop())  # nobody else accepts calls
        while not self._stop.is_set():
            try:
                async with asyncio.timeout(HEALTH_SECONDS):
                    await self._stop.wait()
            except TimeoutError:
                self._health.set(await self._readiness() is None)
        self._health.drain()
        await self._servicer.drain(self._drain_seconds)
        await self._server.stop(self._drain_seconds)
        await accepting

    async def announce_stop(self) -> None:
        """Have health say NOT_SERVING at once; calls are served on until :meth:`stop`."""
        self._health.drain()

    @property
    def certificate_end(self) -> Callable[[], float] | None:
        """Tells when the certificate in use ends, in seconds since the epoch; None without TLS."""
        return None if self._certificates is None else self._certificates.ends_at

    def reload_certificates(self) -> None:
        """Use the TLS files as they are now, for new connections."""
        if self._certificates is not None:
            self._certificates.reload()

    def stop(self) -> None:
        """End :meth:`serve`."""
        self._stop.set()
