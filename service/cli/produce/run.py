"""The surroundings of a run of ``wepeople-ingest produce``: its files, signals and notes."""

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

from service.cli.help import PROGRAM
from service.cli.output import note
from service.cli.produce.display import Display
from service.cli.produce.event_files import Chunk, ReadAhead, chunks, fingerprint
from service.cli.produce.rejections import Rejections
from service.cli.produce.runner import OtherLinesError, ProduceRunner, Summary, run_until
from wepeople_ingest_client import ProducerError, StreamProducer, Tls

# A few more than a server takes without acking. Batches read ahead of that are lost when the run is
# interrupted, and their lines that are no events are reported again by the next run.
BUFFERED_BATCHES: Final = 40
FAILED: Final = 1
GO_ON: Final = "Run the same command again to go on; nothing is stored twice."


@dataclass(frozen=True)
class Options:
    """The options of a run, checked."""

    file: Path | None  # None for standard input
    is_regular: bool  # whether the file can be read again from its beginning
    producer_id: str | None
    server: str
    key: str
    tls: Tls | None
    batch: int
    rejected: Path | None
    patience_seconds: int


@dataclass(frozen=True)
class Outcome:
    """The end of a run; ``finished`` if it came to the end of the file without a failure."""

    producer_id: str
    summary: Summary
    failure: Exception | None
    finished: bool


def run(options: Options) -> Outcome:
    """Send the file until its end, a failure or a signal.

    A failure to open a file is raised as OSError; later failures are in the outcome. A second
    signal exits with status 1.
    """
    with contextlib.ExitStack() as stack:
        source = _open(options.file)
        if options.is_regular:  # closing a pipe would wait for the thread that reads from it
            stack.enter_context(source)
        content = None
        if not options.producer_id:
            content = fingerprint(source)
            source.seek(0)
        name = options.producer_id or (content[0] if content else "")
        file = None
        if options.rejected is not None:
            file = options.rejected.open("ab")
            stack.callback(_close, file)
        display = Display(content[1] if content else _size(source))
        stack.callback(display.close)
        stack.enter_context(_warnings_to(display.note))
        rejections = Rejections(file, display.note)
        return asyncio.run(
            _send(options, name, chunks(source, options.batch, content), rejections, display)
        )


async def _send(
    options: Options,
    producer_id: str,
    source: Iterator[Chunk],
    rejections: Rejections,
    display: Display,
) -> Outcome:
    stop = asyncio.Event()
    _on_signals(stop, display)
    runner = ProduceRunner(ReadAhead(source), rejections)
    producer = StreamProducer(
        options.server,
        options.key,
        producer_id,
        max_buffered_events=BUFFERED_BATCHES * options.batch,
        on_rejected=runner.on_rejected,
        tls=options.tls,
        give_up_after_seconds=options.patience_seconds,
    )
    failure: Exception | None = None
    finished = False
    try:
        async with display.showing(runner, producer):
            finished = await run_until(stop, runner, producer)
    except (ProducerError, OtherLinesError, OSError) as error:
        failure = error
    return Outcome(producer_id, runner.summary(producer.metrics), failure, finished)


def _open(file: Path | None) -> IO[bytes]:
    # Not sys.stdin: the thread that reads from it would hold its lock until the process ends.
    return open(0, "rb", closefd=False) if file is None else file.open("rb")


def _close(file: IO[bytes]) -> None:
    # Rejections flushes each line, and has raised already if one could not be written.
    with contextlib.suppress(OSError):
        file.close()


def _size(source: IO[bytes]) -> int | None:
    status = os.fstat(source.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _on_signals(stop: asyncio.Event, display: Display) -> None:
    """Set ``stop`` at the first SIGINT or SIGTERM, and exit at the second; neither loses events."""

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
    """Pass the warnings that the producer logs, of lost connections, to ``tell``."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell(record.getMessage())

    log = logging.getLogger("wepeople_ingest_client.stream")
    handler = Notes(logging.WARNING)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True
