"""One run of ``wepeople-ingest produce``: chunks of lines are streamed into the service."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from core.error_codes import ErrorCode
from service.cli.produce.event_files import MAX_LINE_BYTES, Chunk, Line, ReadAhead
from service.cli.produce.rejections import Rejections
from wepeople_ingest_client.pb import ingest_pb2 as pb
from wepeople_ingest_client.stream import ProducerMetrics, StreamProducer, event_json

# For the acks of batches in flight after an interruption.
INTERRUPT_SECONDS: Final = 5.0


class OtherLinesError(Exception):
    """The server has judged more events of this producer than there are lines here."""


@dataclass(frozen=True)
class Summary:
    """The results of the lines that have one; blank lines are not counted."""

    accepted: int
    rejected: int  # by the server, or as no event at all; each line is reported
    # By an earlier run, or by this one if the ack was lost.
    already_stored: int
    already_rejected: int  # by the server; only a lost ack said which lines
    seconds: float
    quota_left: int | None

    @property
    def lines(self) -> int:
        """The number of lines that have a result."""
        return self.sent + self.already_stored + self.already_rejected

    @property
    def sent(self) -> int:
        """The number of lines whose result this run received."""
        return self.accepted + self.rejected

    @property
    def all_stored(self) -> bool:
        """Whether no line was rejected, now or before."""
        return not (self.rejected or self.already_rejected)


@dataclass(frozen=True)
class _Sent:
    """A batch that may have no ack yet. ``first_number`` is that of its first event."""

    sequence: int
    first_number: int
    lines: list[Line]
    end: int


class ProduceRunner:
    """Sends the chunks of a source, and goes on where an earlier run has ended.

    Lines that are no event are never sent; the others are the producer's events, in their order.
    The server says how many events of the producer it has judged, and so many are skipped. This
    holds for any size of batches, and when lines were added to the end of the source.
    """

    def __init__(self, source: ReadAhead, rejections: Rejections) -> None:
        self._source = source
        self._rejections = rejections
        self._sent: deque[_Sent] = deque()
        self._to_skip = 0
        self._already_stored = self._already_rejected = 0
        self._unsendable = 0
        self._began = time.monotonic()
        self.done_bytes = 0

    async def run(self, producer: StreamProducer) -> None:
        """Send everything and wait for the last ack.

        Raises ProducerError if the producer cannot go on, OtherLinesError if the source is not that
        of the earlier run, and OSError if it cannot be read.
        """
        await producer.start()
        self._already_stored = producer.resumed_accepted
        self._already_rejected = producer.resumed_rejected
        self._to_skip = producer.resumed_events
        sequence = producer.resumed_sequence
        while (chunk := await self._source.next()) is not None:
            events, lines = self._convert(chunk)
            if events:
                sequence += 1
                first_number = producer.metrics.sent + 1
                self._sent.append(_Sent(sequence, first_number, lines, chunk.end))
                await producer.send_batch(events)
            elif not self._sent:
                self.done_bytes = chunk.end
            self._forget_acked(producer.metrics.last_sequence)
        if self._to_skip:
            judged = producer.resumed_events
            raise OtherLinesError(
                f"{judged:,} events of this producer id were sent before and here are only "
                f"{judged - self._to_skip:,}: those were other lines"
            )
        await producer.flush()

    def on_rejected(self, number: int, _: pb.IngestEvent, code: str, message: str) -> None:
        """Report a rejected event: the producer's callback."""
        while number >= self._sent[0].first_number + len(self._sent[0].lines):
            self._sent.popleft()
        batch = self._sent[0]
        self._rejections.report(batch.lines[number - batch.first_number], code, message)

    def summary(self, metrics: ProducerMetrics) -> Summary:
        """The results so far."""
        self._forget_acked(metrics.last_sequence)
        return Summary(
            metrics.accepted,
            metrics.rejected + self._unsendable,
            self._already_stored + metrics.duplicate - metrics.duplicate_rejected,
            self._already_rejected + metrics.duplicate_rejected,
            time.monotonic() - self._began,
            metrics.quota_left,
        )

    def _convert(self, chunk: Chunk) -> tuple[list[pb.IngestEvent], list[Line]]:
        """The events to send and their lines; lines that are no event are reported."""
        events: list[pb.IngestEvent] = []
        lines: list[Line] = []
        for line in chunk.lines:
            event, problem = _converted(line)
            if event is None:
                self._unsendable += 1
                self._rejections.report(line, ErrorCode.INVALID_BODY.value, problem)
            elif self._to_skip:
                self._to_skip -= 1
            else:
                events.append(event)
                lines.append(line)
        return events, lines

    def _forget_acked(self, last_sequence: int) -> None:
        while self._sent and self._sent[0].sequence <= last_sequence:
            self.done_bytes = self._sent.popleft().end


def _converted(line: Line) -> tuple[pb.IngestEvent | None, str]:
    if not line.is_whole:
        return None, f"must be at most {MAX_LINE_BYTES} bytes"
    try:
        return event_json.from_text(line.text), ""
    except ValueError as error:
        return None, str(error)


async def run_until(stop: asyncio.Event, runner: ProduceRunner, producer: StreamProducer) -> bool:
    """Run to the end, or until ``stop`` and then wait shortly for acks.

    Returns whether it ran to the end. Raises as :meth:`ProduceRunner.run` does.
    """
    running = asyncio.create_task(runner.run(producer))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
            await producer.close()
            return True
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await producer.abort(INTERRUPT_SECONDS)
        return False
    finally:
        stopping.cancel()
        await producer.abort()
