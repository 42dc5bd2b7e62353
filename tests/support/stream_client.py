"""A client of StreamEvents that is driven message by message, and how a stream ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc.aio import Metadata
from grpc_status import rpc_status

from grpc_api.pb import ingest_pb2 as pb
from grpc_api.pb.ingest_pb2_grpc import IngestServiceStub
from tests.support.driver import JsonObject
from tests.support.grpc_driver import error_details, error_reply, event_message
from tests.support.tenant import event

PATIENCE_SECONDS = 20.0
STREAM_EVENTS = "/wepeople.ingest.v1.IngestService/StreamEvents"

# Written out again on purpose: the contract's table, not the code's.
STREAM_STATUS = {
    "SEQUENCE_GAP": grpc.StatusCode.OUT_OF_RANGE,
    "PRODUCER_TAKEN_OVER": grpc.StatusCode.ABORTED,
    "STREAM_TOO_OLD": grpc.StatusCode.UNAVAILABLE,
    "PRODUCER_LIMIT": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def batch(
    events: Sequence[JsonObject] | None = None,
    *,
    sequence: int = 0,
    idempotency_key: str | None = None,
) -> pb.StreamEventsRequest:
    """The message of a batch; without events of one valid event."""
    messages = [event_message(one) for one in ([event()] if events is None else events)]
    return pb.StreamEventsRequest(
        batch=pb.StreamBatch(sequence=sequence, events=messages, idempotency_key=idempotency_key)
    )


def opening(producer_id: str) -> pb.StreamEventsRequest:
    """The message that opens a stream in the name of a producer."""
    return pb.StreamEventsRequest(open=pb.StreamOpen(producer_id=producer_id))


@dataclass(frozen=True)
class End:
    """How a stream ended, and the acks that came before the end."""

    status: grpc.StatusCode
    reason: str  # empty for OK
    message: str
    acks: Sequence[pb.StreamAck]


class Stream:
    """One call of StreamEvents. An awaited message must come within ``PATIENCE_SECONDS``."""

    def __init__(self, channel: grpc.aio.Channel, key: str | None) -> None:
        metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        self.call = IngestServiceStub(channel).StreamEvents(metadata=metadata)
        self.opened: pb.StreamOpened | None = None

    async def write(self, message: pb.StreamEventsRequest) -> None:
        """Send any message."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.call.write(message)

    async def open(self, producer_id: str) -> int:
        """Open as a producer; returns the last committed sequence."""
        await self.write(opening(producer_id))
        return int((await self.read_opened()).last_sequence)

    async def read_opened(self) -> pb.StreamOpened:
        """The stream's first answer."""
        response = await self._read()
        assert response.WhichOneof("message") == "opened", response
        self.opened = response.opened
        return self.opened

    async def send(
        self,
        *events: JsonObject,
        sequence: int = 0,
        idempotency_key: str | None = None,
    ) -> None:
        """Send a batch; without events of one valid event."""
        await self.write(batch(events or None, sequence=sequence, idempotency_key=idempotency_key))

    async def send_late(self, *events: JsonObject, sequence: int) -> None:
        """Send a batch that may come after the stream's end.

        The library's own way to write would then forget the status that the server has sent.
        """
        call: Any = self.call
        message = batch(events or None, sequence=sequence).SerializeToString()
        with contextlib.suppress(grpc.aio.InternalError):
            await call._cython_call.send_serialized_message(message)

    async def ack(self) -> pb.StreamAck:
        """The next ack; an ``opened`` that was not asked for is read over."""
        if self.opened is None:
            await self.read_opened()
        response = await self._read()
        assert response.WhichOneof("message") == "ack", response
        ack: pb.StreamAck = response.ack
        return ack

    async def _read(self) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            response = await self.call.read()
        assert isinstance(response, pb.StreamEventsResponse), "the stream ended"
        return response

    async def done_writing(self) -> None:
        """Say that nothing more comes."""
        await self.call.done_writing()

    async def end(self, seconds: float = PATIENCE_SECONDS) -> End:
        """Read to the stream's end; checks the details that the contract promises of its error."""
        acks: list[pb.StreamAck] = []
        async with asyncio.timeout(seconds):
            try:
                while True:
                    response = await self.call.read()
                    if not isinstance(response, pb.StreamEventsResponse):
                        return End(await self.call.code(), "", "", acks)
                    if response.WhichOneof("message") == "ack":
                        acks.append(response.ack)
                    else:
                        assert not acks
                        assert self.opened is None
                        self.opened = response.opened
            except grpc.aio.AioRpcError as error:
                reason, message = checked(error)
                return End(error.code(), reason, message, acks)

    def cancel(self) -> None:
        """Go away without a word."""
        self.call.cancel()

    async def close(self) -> None:
        """Cancel it, and wait until the library has done with it."""
        self.call.cancel()
        await self.call.code()


def checked(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """The reason and message of a stream's error, whose details are as promised."""
    details = error_details(error)
    info = details[error_details_pb2.ErrorInfo]
    initial = dict(error.initial_metadata() or ())
    if not initial:
        # The client's library loses it when a stream's status arrives together with it.
        metadata = Metadata(("x-request-id", info.metadata["requestId"]))
        error = grpc.aio.AioRpcError(
            error.code(), metadata, error.trailing_metadata(), error.details()
        )
    if info.reason not in STREAM_STATUS:
        error_reply(error)
    else:
        assert error.code() is STREAM_STATUS[info.reason]
        assert info.domain == "wepeople.app"
        assert initial.get("x-request-id") in (None, info.metadata["requestId"])
        assert info.metadata["docsUrl"].endswith(f"/developers/reference#{info.reason.lower()}")
        assert list(details) == [error_details_pb2.ErrorInfo]
    return info.reason, error.details() or ""


def flood(target: str, key: str, messages: Iterable[pb.StreamEventsRequest]) -> End:
    """Send messages as fast as the stream takes them while reading acks, until it ends.

    Blocking, for a thread of its own: grpc.aio's client tells INTERNAL instead of the status if
    the server ends a stream in the middle of a write.
    """
    acks: list[pb.StreamAck] = []

    with grpc.insecure_channel(target) as channel:
        method: Any = channel.stream_stream(
            STREAM_EVENTS,
            request_serializer=pb.StreamEventsRequest.SerializeToString,
            response_deserializer=pb.StreamEventsResponse.FromString,
        )
        call = method(iter(messages), metadata=(("authorization", f"Bearer {key}"),), timeout=60)
        try:
            acks.extend(
                response.ack for response in call if response.WhichOneof("message") == "ack"
            )
        except grpc.RpcError as error:
            info = error_details_pb2.ErrorInfo()
            status = rpc_status.from_call(error)  # type: ignore[arg-type]
            if status is None or not status.details[0].Unpack(info):
                raise  # the connection, not the service
            return End(call.code(), info.reason, status.message, acks)
        return End(call.code(), "", "", acks)


def numbered(producer_id: str, start: int = 1, size: int = 1) -> Iterator[pb.StreamEventsRequest]:
    """The messages of a producer that never stops."""
    yield opening(producer_id)
    message = batch([event()] * size)
    for sequence in itertools.count(start):
        message.batch.sequence = sequence
        yield message
