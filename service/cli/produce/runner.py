"""The produce runner: streams chunks of lines into the service."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

import msgspec

from core.error_codes import ErrorCode
from grpc_api.pb import ingest_pb2 as pb
from grpc_api.producer import ProducerMetrics, StreamProducer, event_json
from service.cli.produce.event_files import MAX_LINE_BYTES, Chunk, Line, ReadAhead

if TYPE_CHECKING:
    pass

# How long acks of what is in flight may still take once somebody wants an end.
INTERRUPT_SECONDS: Final = 5.0
MAX_SHOWN_CHARACTERS: Final = 160  # of a rejected line, on stderr

Note = Callable[[str], None]


class OtherLinesError(Exception):
    """The server has judged more events of this producer than there are lines here."""


@dataclass(frozen=True)
class Summary:
    """The lines whose outcome is known, blank ones apart."""

    accepted: int
    rejected: int  # by the server or as no event at all; told, line by line
    # By an earlier run, or by this one before it lost the ack.
    already_stored: int
    already_rejected: int  # by the server; which ones only the ack said
    seconds: float
    quota_left: int | None

    @property
    def lines(self) -> int:
        """The number of all of them."""
        return self.sent + self.already_stored + self.already_rejected

    @property
    def sent(self) -> int:
        """The number of those whose outcome this run was told."""
        return self.accepted + self.rejected

    @property
    def all_stored(self) -> bool:
        """Whether none was rejected, now or before."""
        return not (self.rejected or self.already_rejected)


@dataclass(frozen=True)
class _Sent:
    """A batch that may have no ack yet. ``first_number`` is that of its first event."""

    sequence: int
    first_number: int
    lines: list[Line]
    end: int


class Rejections:
    """Tells which lines were rejected and why: a note each, or a JSON object each in a file."""

    def __init__(self, file: IO[bytes] | None, tell: Note) -> None:
        self._file = file
        self._tell = tell

    def report(self, line: Line, code: str, message: str) -> None:
        """One rejected line. In the file when this returns, even if the process is killed then."""
        if self._file is None:
            self._tell(f"line {line.number}: {code}: {message}: {_shortened(line)}")
            return
        told = {"line": line.number, "code": code, "message": message, "event": _event(line)}
        self._file.write(msgspec.json.encode(told) + b"\n")
        self._file.flush()


def _shortened(line: Line) -> str:
    text = line.text.decode(errors="backslashreplace")
    is_all = line.is_whole and len(text) <= MAX_SHOWN_CHARACTERS
    return text if is_all else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def _event(line: Line) -> msgspec.Raw | str | None:
    """A line as JSON: itself, or a string if it is no JSON, or null if it is too long."""
    if not line.is_whole:
        return None
    try:
        msgspec.json.decode(line.text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line.text.decode(errors="backslashreplace")
    return msgspec.Raw(line.text)


class Production:
    """One run over the chunks of a source.

    Lines that are no event are never sent; the others are the producer's events, in their order.
    So the number of events that the server has judged says how many of them to pass over, however
    they were cut into batches, and whatever was added to the source since.
    """

    def __init__(self, source: ReadAhead, rejections: Rejections) -> None:
        self._source = source
        self._rejections = rejections
        self._sent: deque[_Sent] = deque()
        self._to_pass_over = 0
        self._already_stored = self._already_rejected = 0
        self._unsendable = 0
        self._began = time.monotonic()
        self.done_bytes = 0

    async def run(self, producer: StreamProducer) -> None:
        """Send everything and wait for the last ack. Raises what ends the producer."""
        await producer.start()
        self._already_stored = producer.resumed_accepted
        self._already_rejected = producer.resumed_rejected
        self._to_pass_over = producer.resumed_events
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
            self._forget(producer.metrics.last_sequence)
        if self._to_pass_over:
            judged = producer.resumed_events
            raise OtherLinesError(
                f"{judged:,} events of this producer id were sent before and here are only "
                f"{judged - self._to_pass_over:,}: those were other lines"
            )
        await producer.flush()

    def on_rejected(self, number: int, _: pb.IngestEvent, code: str, message: str) -> None:
        """The producer's callback."""
        while number >= self._sent[0].first_number + len(self._sent[0].lines):
            self._sent.popleft()
        batch = self._sent[0]
        self._rejections.report(batch.lines[number - batch.first_number], code, message)

    def summary(self, metrics: ProducerMetrics) -> Summary:
        """The lines whose outcome is known by now."""
        self._forget(metrics.last_sequence)
        return Summary(
            metrics.accepted,
            metrics.rejected + self._unsendable,
            self._already_stored + metrics.duplicate - metrics.duplicate_rejected,
            self._already_rejected + metrics.duplicate_rejected,
            time.monotonic() - self._began,
            metrics.quota_left,
        )

    def _convert(self, chunk: Chunk) -> tuple[list[pb.IngestEvent], list[Line]]:
        """The events to send and their lines. Reports those that are none."""
        events: list[pb.IngestEvent] = []
        lines: list[Line] = []
        for line in chunk.lines:
            event, problem = _converted(line)
            if event is None:
                self._unsendable += 1
                self._rejections.report(line, ErrorCode.INVALID_BODY.value, problem)
            elif self._to_pass_over:
                self._to_pass_over -= 1
            else:
                events.append(event)
                lines.append(line)
        return events, lines

    def _forget(self, last_sequence: int) -> None:
        while self._sent and self._sent[0].sequence <= last_sequence:
            self.done_bytes = self._sent.popleft().end


def _converted(line: Line) -> tuple[pb.IngestEvent | None, str]:
    if not line.is_whole:
        return None, f"must be at most {MAX_LINE_BYTES} bytes"
    try:
        return event_json.from_text(line.text), ""
    except ValueError as error:
        return None, str(error)


async def run_until(stop: asyncio.Event, production: Production, producer: StreamProducer) -> bool:
    """Run to the end, or until ``stop``: then with a short wait for acks. Whether to the end."""
    running = asyncio.create_task(production.run(producer))
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
