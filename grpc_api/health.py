"""grpc.health.v1, bounded: anybody may ask, and nobody can keep the others waiting.

The library's servicer reads a whole message before it counts anything, writes to its watchers one
after the other, and lets them stay for ever: one that does not read would hold up the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2

from core.errors import IngestError
from grpc_api.accepting import Context, forgetting_aborts
from grpc_api.open_calls import OpenCalls, read_message

MAX_MESSAGES: Final = 32  # that are arriving; a real one comes with its headers
MESSAGE_SECONDS: Final = 5.0
MAX_WATCHES: Final = 256
WATCH_SECONDS: Final = 3_600.0

_Response = health_pb2.HealthCheckResponse


class Health:
    """The health of the named services, which is the same for all, and of the whole server.

    ``begin`` returns when a call's turn has come.
    """

    def __init__(self, begin: Callable[[], Awaitable[None]], *services: str) -> None:
        self._begin = begin
        self._services = frozenset((health.OVERALL_HEALTH, *services))
        self._status: Any = _Response.NOT_SERVING
        self._draining = False
        self._changed: asyncio.Future[None] | None = None
        self._messages = OpenCalls(MAX_MESSAGES, MESSAGE_SECONDS)
        self._watches = OpenCalls(MAX_WATCHES, WATCH_SECONDS)

    def set(self, serving: bool) -> None:
        """Change the status; does nothing after :meth:`drain`."""
        status = _Response.SERVING if serving else _Response.NOT_SERVING
        if not self._draining and status != self._status:
            self._status = status
            self._notify()

    def drain(self) -> None:
        """Not serving for good; the watches end once they have told it."""
        self._status = _Response.NOT_SERVING
        self._draining = True
        self._notify()

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler of the two methods, for a server to register.

        Both are served as streams, on which no message is read before it is asked for.
        """
        options: Any = {
            "request_deserializer": health_pb2.HealthCheckRequest.FromString,
            "response_serializer": _Response.SerializeToString,
        }
        check, watch = forgetting_aborts(self._check), forgetting_aborts(self._watch)
        return grpc.method_handlers_generic_handler(
            health.SERVICE_NAME,
            {
                "Check": grpc.stream_unary_rpc_method_handler(check, **options),
                "Watch": grpc.stream_stream_rpc_method_handler(watch, **options),
            },
        )

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None

    async def _service(self, context: Context) -> str:
        try:
            await self._begin()
        except IngestError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, error.message)
        async with self._messages.place(context):
            request = await read_message(context)
        return request.service if isinstance(request, health_pb2.HealthCheckRequest) else ""

    async def _check(self, _: object, context: Context) -> health_pb2.HealthCheckResponse:
        if await self._service(context) not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return _Response(status=self._status)

    async def _watch(self, _: object, context: Context) -> None:
        known = await self._service(context) in self._services
        async with self._watches.place(context):
            told = None
            while True:
                status = self._status if known else _Response.SERVICE_UNKNOWN
                if status != told:
                    await context.write(_Response(status=status))
                    told = status
                elif self._draining:
                    return
                else:
                    if self._changed is None:
                        self._changed = asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._changed)
