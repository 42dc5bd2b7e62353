"""One run of ``produce``: its files, its signals and its producer, from begin to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import grpc

from grpc_api.producer import ProducerError, StreamProducer
from service.cli.help import PROGRAM
from service.cli.output import note
from service.cli.produce.display import Display
from service.cli.produce.event_files import Chunk, ReadAhead, chunks, fingerprint
from service.cli.produce.runner import (
    OtherLinesError,
    Production,
    Rejections,
    Summary,
    run_until,
)

# A few more than a server takes without acking. Lines that are read ahead of those are read in vain
# when the command is interrupted, and the ones that are no events are told twice.
BUFFERED_BATCHES: Final = 40
FAILED: Final = 1
GO_ON: Final = "Run the same command again to go on; nothing is stored twice."


@dataclass(frozen=True, slots=True)
class Task:
    """The lines to send, and the server they go to."""

    file: Path | None  # None: standard input
    is_regular: bool  # it can be read again
    producer_id: str | None  # None: named by the content of the file
    server: str  # HOST:PORT
    api_key: str
    credentials: grpc.ChannelCredentials | None  # None: without TLS
    batch_events: int
    rejected: Path | None  # where rejected lines are appended
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run. ``is_whole``: every line was read."""

    producer_id: str
    summary: Summary
    failure: Exception | None
    is_whole: bool


def stream(task: Task) -> Outcome:
    """Send every line, until the end or an interruption."""
    with contextlib.ExitStack() as stack:
        source = _open(task.file)
        if task.is_regular:  # closing what a reader waits at would wait with it
            stack.enter_context(source)
        expected = None
        if not task.producer_id:
            expected = fingerprint(source)
            source.seek(0)
        reports = (
            None if task.rejected is None else stack.enter_context(task.rejected.open("ab", 0))
        )
        display = Display(expected[1] if expected else _size(source))
        stack.callback(display.close)
        stack.enter_context(_warnings_to(display.note))
        name = task.producer_id or (expected[0] if expected else "")
        lines = chunks(source, task.batch_events, expected)
        return asyncio.run(_run(task, name, lines, Rejections(reports, display.note), display))


async def _run(
    task: Task, name: str, lines: Iterator[Chunk], rejections: Rejections, display: Display
) -> Outcome:
    stop = asyncio.Event()
    _on_signals(stop, display)
    production = Production(ReadAhead(lines), rejections)
    producer = StreamProducer(
        task.server,
        task.api_key,
        name,
        max_buffered_events=BUFFERED_BATCHES * task.batch_events,
        on_rejected=production.on_rejected,
        credentials=task.credentials,
        give_up_after_seconds=task.patience_seconds,
    )
    failure: Exception | None = None
    is_whole = False
    try:
        async with display.showing(production, producer):
            is_whole = await run_until(stop, production, producer)
    except (ProducerError, OtherLinesError, OSError) as error:
        failure = error
    return Outcome(name, production.summary(producer.metrics), failure, is_whole)


def _open(file: Path | None) -> IO[bytes]:
    # Not sys.stdin itself, whose lock a reader that waits would hold to the end.
    return open(0, "rb", closefd=False) if file is None else file.open("rb")


def _size(source: IO[bytes]) -> int | None:
    status = os.fstat(source.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _on_signals(stop: asyncio.Event, display: Display) -> None:
    """Have the first Ctrl-C end in order and the second at once; nothing is lost by either."""

    def on_signal() -> None:
        if stop.is_set():
            display.close()
            note(f"{PROGRAM}: interrupted at once. {GO_ON}")
            os._exit(FAILED)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


@contextlib.contextmanager
def _warnings_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Show the producer's warnings, such as disconnects, to the person at the terminal."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell(record.getMessage())

    log = logging.getLogger("grpc_api.producer")
    handler = Notes(logging.WARNING)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True
