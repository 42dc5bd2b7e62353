"""The sender: gives a send buffer's batches to the server, over one stream after another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import grpc

from wepeople_ingest_client.pb import ingest_pb2 as pb
from wepeople_ingest_client.stream.endpoint import Endpoint
from wepeople_ingest_client.stream.reconnect import Reconnect
from wepeople_ingest_client.stream.send_buffer import SealedBatch, SendBuffer, SequenceLostError
from wepeople_ingest_client.stream.status import ProducerError, StreamStatus, stream_status

METHOD: Final = "/wepeople.ingest.v1.IngestService/StreamEvents"
OPEN_SECONDS: Final = 15.0  # more than the server may take with its database away
STATUS_SECONDS: Final = 2.0  # between a status of the library's own and the server's

# The arguments are number, event, code and message.
OnRejected = Callable[[int, pb.IngestEvent, str, str], None]
# types-grpcio has no type for a call whose requests are bytes and whose responses are messages.
_Call = Any


class Sender:
    """Sends the batches of a buffer and removes them as their acks come.

    ``work`` must be set by the caller when there may be something to send. ``progress`` is set by
    the sender when a stream has opened, an ack has come or sending has failed for good; the reason
    is then in ``failure``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        producer_id: str,
        buffer: SendBuffer,
        *,
        max_in_flight: int,
        on_rejected: OnRejected | None,
        give_up_after_seconds: float | None,
    ) -> None:
        self.work = asyncio.Event()
        self.progress = asyncio.Event()
        self.failure: Exception | None = None
        self.streams_opened = 0
        self.resumed = pb.StreamOpened()  # the server's answer to the first stream
        self.accepted = self.rejected = self.duplicate = 0  # events
        self.duplicate_rejected = 0  # of the duplicates
        self.quota_left: int | None = None
        self._endpoint = endpoint
        self._producer_id = producer_id
        self._buffer = buffer
        self._max_in_flight = max_in_flight
        self._window = max_in_flight
        self._on_rejected = on_rejected
        self._reconnect = Reconnect(give_up_after_seconds)
        self._finishing = False
        self._aborted = False

    def finish(self) -> None:
        """End :meth:`run` once every batch is acked."""
        self._finishing = True
        self.work.set()

    def pause(self) -> None:
        """Send no more batches; acks of those in flight are still taken."""
        self._window = self._max_in_flight = 0

    def abort(self) -> None:
        """Wake every caller of :meth:`wait_for_progress` with RuntimeError."""
        self._aborted = True
        self.progress.set()

    async def wait_for_progress(self) -> None:
        """Wait until ``progress`` is set; raises ``failure``, or RuntimeError after an abort."""
        self._raise_end()
        self.progress.clear()
        await self.progress.wait()
        self._raise_end()

    def _raise_end(self) -> None:
        self.raise_failure()
        if self._aborted:
            raise RuntimeError("the producer was ended before its last ack")

    def raise_failure(self) -> None:
        """Raise ``failure`` if it is set."""
        if self.failure is not None:
            raise self.failure

    async def run(self) -> None:
        """Send until :meth:`finish`. Does not raise: an earlier end sets ``failure``."""
        try:
            while not self._is_finished():
                began = asyncio.get_running_loop().time()
                status = await self._stream()
                if self._is_finished():
                    return
                await self._reconnect.wait(status, asyncio.get_running_loop().time() - began)
        except SequenceLostError as error:
            self.failure = ProducerError(
                grpc.StatusCode.FAILED_PRECONDITION, "SEQUENCE_LOST", str(error)
            )
        except Exception as error:
            self.failure = error
        finally:
            self.progress.set()

    def _is_finished(self) -> bool:
        return self._finishing and not self._buffer.unacked_batches

    async def _stream(self) -> StreamStatus:
        try:
            channel = self._endpoint.channel()
        except OSError as error:
            if not self.streams_opened:
                raise
            return StreamStatus(grpc.StatusCode.UNAVAILABLE, str(error))  # a file is being renewed
        streams_opened = self.streams_opened
        status = await self._use(channel)
        if self.streams_opened > streams_opened:
            return status
        return await self._endpoint.judge(status)

    async def _use(self, channel: grpc.aio.Channel) -> StreamStatus:
        async with channel:
            method: _Call = channel.stream_stream(
                METHOD, response_deserializer=pb.StreamEventsResponse.FromString
            )
            call = method(metadata=self._endpoint.metadata())
            tasks: list[asyncio.Task[None]] = []
            try:
                async with asyncio.timeout(OPEN_SECONDS) as opening:
                    reading = asyncio.create_task(self._read(call, opening))
                    tasks += [reading, asyncio.create_task(self._write(call))]
                    status = await _first_end(call, tasks)
                # The last acks came before the status, and this status may be the library's own.
                await asyncio.wait([reading], timeout=STATUS_SECONDS)
                if reading.done() and not reading.cancelled():
                    reading.result()
                return stream_status(call) if status.is_local else status
            except TimeoutError:
                message = f"the server did not open the stream within {OPEN_SECONDS:g} s"
                return StreamStatus(grpc.StatusCode.DEADLINE_EXCEEDED, message)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                call.cancel()

    async def _read(self, call: _Call, opening: asyncio.Timeout) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):  # the status of the call has it, too
            # Not `call.read()`: after a failed write it does not return the acks that are left,
            # and the library gives the status only after the last message.
            async for response in call:
                if response.WhichOneof("message") == "ack":
                    self._acknowledge(response.ack)
                elif not opening.expired():
                    opening.reschedule(None)
                    self._resume(response.opened)

    async def _write(self, call: _Call) -> None:
        streams_opened = self.streams_opened
        opening = pb.StreamOpen(producer_id=self._producer_id)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(pb.StreamEventsRequest(open=opening).SerializeToString())
            while True:
                opened = self.streams_opened > streams_opened
                batch = self._buffer.next_to_send(self._window) if opened else None
                if batch is not None:
                    await call.write(batch.message)
                elif self._is_finished():
                    await call.done_writing()
                    return
                else:
                    self.work.clear()
                    await self.work.wait()

    def _resume(self, opened: pb.StreamOpened) -> None:
        if self.streams_opened:
            for batch in self._buffer.resume(opened.last_sequence):
                self.duplicate += batch.count
                self._reconnect.note_progress()
            # The server's count, less those we have acks of: the rejections in acks that were lost.
            known = self.resumed.rejected + self.rejected
            self.duplicate_rejected = max(0, opened.rejected - known)
        else:
            self.resumed = opened
            self._buffer.start(opened.last_sequence)
        self.streams_opened += 1
        self._window = min(self._max_in_flight, opened.max_in_flight or self._window)
        if not self._buffer.unacked_batches:
            self._reconnect.note_progress()
        self.work.set()
        self.progress.set()

    def _acknowledge(self, ack: pb.StreamAck) -> None:
        batch = self._buffer.acknowledge(ack.sequence)
        self._reconnect.note_progress()
        self.work.set()
        self.progress.set()
        self.quota_left = ack.quota_left if ack.HasField("quota_left") else None
        if ack.duplicate:
            self.duplicate += batch.count
            return
        self.accepted += ack.accepted
        self.rejected += len(ack.rejected)
        if ack.rejected and self._on_rejected is not None:
            try:
                self._report(batch, ack, self._on_rejected)
            except Exception as error:
                # At once, so that a caller who waits for this very ack sees the failure.
                self.failure = error
                raise

    def _report(self, batch: SealedBatch, ack: pb.StreamAck, on_rejected: OnRejected) -> None:
        events = batch.events()
        for one in ack.rejected:
            # The caller knows an event by its number; its index in a batch means nothing there.
            message = one.message.replace(f"events[{one.index}].", "")
            message = message.removeprefix(f"events[{one.index}]: ")
            on_rejected(batch.first_number + one.index, events[one.index], one.code, message)


async def _first_end(call: _Call, tasks: list[asyncio.Task[None]]) -> StreamStatus:
    """Wait until the call is done; raises what one of its tasks raises before."""
    ended: asyncio.Future[StreamStatus] = asyncio.get_running_loop().create_future()

    def finish(call: _Call) -> None:
        if not ended.done():
            ended.set_result(stream_status(call))

    def fail(task: asyncio.Task[None]) -> None:
        if not (task.cancelled() or ended.done()) and (error := task.exception()):
            ended.set_exception(error)

    call.add_done_callback(finish)
    for task in tasks:
        task.add_done_callback(fail)
    return await ended
