"""``wepeople-ingest produce``: a file of events into the service, each of them once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from core.limits import MAX_BATCH_EVENTS
from service.cli.help import PROGRAM, examples
from service.cli.output import note, print_fields, print_json
from service.cli.session import Json, duration_option

if TYPE_CHECKING:
    import grpc

    from service.cli.produce.runner import Display, Summary

API_KEY: Final = "WEPEOPLE_API_KEY"
STDIN: Final = "-"
DEFAULT_SERVER: Final = "127.0.0.1:50051"
DEFAULT_PATIENCE_SECONDS: Final = 60
# A few more than a server takes without acking: what is read ahead of that is read in vain when
# the command is interrupted, and the lines of it that are no events are told twice.
BUFFERED_BATCHES: Final = 40
LOOPBACK: Final = ("127.", "localhost:", "[::1]:")
FAILED: Final = 1
GO_ON: Final = "Run the same command again to go on; nothing is stored twice."
EXAMPLES: Final = examples(
    "produce events.ndjson",
    "produce events.ndjson --key-file key.txt --rejected rejected.ndjson",
    "produce - --producer-id crm-export-2026-04-19 --server ingest.example:443 < events.ndjson",
)


def produce(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Events, one JSON object a line; - is standard input."),
    ],
    producer_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="In whose name, 1 to 200 characters. With the same ID always give the same lines; "
            "more may be added at the end. By default the file is known by its content, and is "
            "another one when anything is added.",
            show_default=False,
        ),
    ] = None,
    server: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the gRPC API is.")
    ] = DEFAULT_SERVER,
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"A file with the API key. Default: the key is in {API_KEY}.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=MAX_BATCH_EVENTS,
            help="At most so many lines a batch. Another run may have another number.",
        ),
    ] = MAX_BATCH_EVENTS,
    rejected: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append rejected lines to this file, each as {line, code, message, event}; by "
            "default they are told on stderr. Lines that are no events are told by every run, what "
            "the server rejects by the one that sent it.",
            show_default=False,
        ),
    ] = None,
    patience: Annotated[
        int | None,
        duration_option("How long to go on trying a server that does not answer. Default: 60s."),
    ] = None,
    certificates: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            metavar="FILE",
            help="PEM file of the authority that the server's TLS certificate is from.",
            show_default=False,
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Without TLS. On a loopback address that is the default."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Stream a file of events, in the JSON form of the REST API, into the service.

    It can be interrupted or killed at any time and run again: nothing is stored twice, as the
    server remembers how many events of this producer it has judged, and so many are not sent
    again. What the server has rejected is final: a later run counts it as already rejected. If an
    ack was lost, by a kill or a lost connection, it is known how many lines of that batch were
    rejected, not which. To store the same file once more, give another --producer-id.

    Exit code 0: every line that is not blank is stored, now or before. 1: some were rejected, now
    or before, or it failed or was interrupted; stderr says which. 2: wrong usage.
    """
    regular = file != STDIN and _is_regular(file)
    if not producer_id and not regular:
        raise typer.BadParameter(
            "is needed for what can be read only once", param_hint="'--producer-id'"
        )
    key = _key(key_file)
    if not re.fullmatch(r"[^\s/]+:\d{1,5}", server):
        raise typer.BadParameter(f"{server!r} is not HOST:PORT", param_hint="'--server'")
    # What the library has to say on its own is said in our words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from grpc_api.producer import ProducerError, StreamProducer
    from service.cli.produce.event_files import ReadAhead, chunks, fingerprint
    from service.cli.produce.runner import (
        Display,
        OtherLinesError,
        Production,
        Rejections,
        run_until,
    )

    credentials = _credentials(server, certificates, insecure)
    with contextlib.ExitStack() as stack:
        source = _open(file)
        if regular:  # closing what a reader waits at would wait with it
            stack.enter_context(source)
        expected = None
        if not producer_id:
            expected = fingerprint(source)
            source.seek(0)
        name = producer_id or (expected[0] if expected else "")
        reports = None if rejected is None else stack.enter_context(rejected.open("ab"))
        display = Display(expected[1] if expected else _size(source))
        stack.callback(display.close)
        stack.enter_context(_warnings_to(display.note))

        async def work() -> tuple[Summary, Exception | None, bool]:
            stop = asyncio.Event()
            _on_signals(stop, display)
            lines = ReadAhead(chunks(source, batch, expected))
            production = Production(lines, Rejections(reports, display.note))
            producer = StreamProducer(
                server,
                key,
                name,
                max_buffered_events=BUFFERED_BATCHES * batch,
                on_rejected=production.on_rejected,
                credentials=credentials,
                give_up_after_seconds=patience or DEFAULT_PATIENCE_SECONDS,
            )
            failure: Exception | None = None
            whole = False
            try:
                async with display.showing(production, producer):
                    whole = await run_until(stop, production, producer)
            except (ProducerError, OtherLinesError, OSError) as error:
                failure = error
            return production.summary(producer.metrics), failure, whole

        summary, failure, whole = asyncio.run(work())
        if failure is None or as_json:
            _print(name, summary, whole, as_json)
        if isinstance(failure, OSError):
            raise failure
    if failure is not None:
        note(f"{PROGRAM}: {failure}")
    if isinstance(failure, ProducerError):
        note(f"{summary.lines:,} lines are done with; the same command goes on after them.")
    if failure is None and not whole:
        note(f"{PROGRAM}: interrupted. {GO_ON}")
    _tell_rejected(summary, rejected)
    if not (whole and summary.all_stored):
        raise typer.Exit(FAILED)


def _tell_rejected(summary: Summary, file: Path | None) -> None:
    """That there were rejected lines, if no line of stderr has said so."""
    if summary.rejected and file is not None:
        note(f"{summary.rejected:,} lines were rejected: see {file}.")
    if summary.already_rejected:
        note(
            f"{summary.already_rejected:,} lines were rejected before: when an earlier run sent "
            "them, or with an ack that was lost."
        )


def _print(producer_id: str, summary: Summary, whole: bool, as_json: bool) -> None:
    rate = round(summary.sent / summary.seconds) if summary.seconds else 0
    if as_json:
        print_json(
            {
                "producerId": producer_id,
                "finished": whole,
                "lines": summary.lines,
                "accepted": summary.accepted,
                "rejected": summary.rejected,
                "alreadyStored": summary.already_stored,
                "alreadyRejected": summary.already_rejected,
                "quotaLeft": summary.quota_left,
                "seconds": round(summary.seconds, 3),
                "eventsPerSecond": rate,
            }
        )
        return
    fields = {
        "producer id": producer_id,
        "lines": f"{summary.lines:,}",
        "accepted": f"{summary.accepted:,}",
        "rejected": f"{summary.rejected:,}",
        "already stored": f"{summary.already_stored:,}",
        "already rejected": f"{summary.already_rejected:,}",
        "seconds": f"{summary.seconds:,.1f}",
        "events/s": f"{rate:,}",
    }
    print_fields(fields)
    if summary.quota_left == 0:
        note("The organization's quota of this month is used up.")


def _is_regular(file: str) -> bool:
    try:
        mode = Path(file).stat().st_mode
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="'FILE'") from None
    if stat.S_ISDIR(mode):
        raise typer.BadParameter(f"{file} is a folder", param_hint="'FILE'")
    return stat.S_ISREG(mode)


def _open(file: str) -> IO[bytes]:
    # Not sys.stdin itself, whose lock a reader that waits would hold to the end.
    return open(0, "rb", closefd=False) if file == STDIN else Path(file).open("rb")


def _size(source: IO[bytes]) -> int | None:
    status = os.fstat(source.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _key(file: Path | None) -> str:
    key = (os.environ.get(API_KEY, "") if file is None else file.read_text()).strip()
    if not key:
        where = f"set {API_KEY}, or give --key-file" if file is None else f"{file} is empty"
        raise typer.BadParameter(f"there is no API key: {where}", param_hint="'--key-file'")
    if not (key.isascii() and key.isprintable()):
        raise typer.BadParameter("that is not an API key", param_hint="'--key-file'")
    return key


def _credentials(
    server: str, certificates: Path | None, insecure: bool
) -> grpc.ChannelCredentials | None:
    import grpc

    if certificates is not None:
        if insecure:
            raise typer.BadParameter("contradicts --ca", param_hint="'--insecure'")
        return grpc.ssl_channel_credentials(certificates.read_bytes())
    if insecure or server.startswith(LOOPBACK):
        return None
    return grpc.ssl_channel_credentials()


def _on_signals(stop: asyncio.Event, display: Display) -> None:
    """The first Ctrl-C ends in order, the second at once: nothing is lost by either."""

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
    """What the producer logs (disconnects) for the person at the terminal."""

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
