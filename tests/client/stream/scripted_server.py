"""A server of StreamEvents that says what the real one only rarely does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from wepeople_ingest_client.pb import ingest_pb2 as pb


class ScriptedServer:
    """Ends each stream with the next status of its script, then serves; remembers the batches."""

    def __init__(self, script: list[status_pb2.Status], last_sequence: int = 0) -> None:
        self.script = script
        self.last_sequence = last_sequence
        self.max_in_flight = 32
        self.acking = asyncio.Event()
        self.acking.set()
        self.opened: list[float] = []
        self.batches: list[int] = []

    async def serve(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """One call of StreamEvents."""
        await context.read()
        self.opened.append(time.monotonic())
        opened = pb.StreamOpened(last_sequence=self.last_sequence, max_in_flight=self.max_in_flight)
        await context.write(pb.StreamEventsResponse(opened=opened))
        status = self.script.pop(0) if self.script else None
        if status is not None:
            await context.read()
            if status.code:
                await context.abort_with_status(rpc_status.to_status(status))
            return
        while isinstance(request := await context.read(), pb.StreamEventsRequest):
            self.last_sequence = request.batch.sequence
            self.batches.append(self.last_sequence)
            await self.acking.wait()
            ack = pb.StreamAck(sequence=self.last_sequence, accepted=len(request.batch.events))
            await context.write(pb.StreamEventsResponse(ack=ack))

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler to register with a server."""
        method = grpc.stream_stream_rpc_method_handler(
            self.serve,
            request_deserializer=pb.StreamEventsRequest.FromString,
            response_serializer=pb.StreamEventsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            "wepeople.ingest.v1.IngestService", {"StreamEvents": method}
        )


def status(name: str, retry_seconds: float | None = None) -> status_pb2.Status:
    """A status for a script, with RetryInfo if it is to be tried again later."""
    details = []
    if retry_seconds is not None:
        packed = any_pb2.Any()
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(retry_seconds * 1_000))
        packed.Pack(retry)
        details.append(packed)
    return status_pb2.Status(code=code_pb2.Code.Value(name), message="as told", details=details)


StartScripted = Callable[..., Awaitable[tuple[ScriptedServer, str]]]
