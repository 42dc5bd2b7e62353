"""``wepeople-ingest produce``: stores a file of events, each of them once."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from core.limits import MAX_BATCH_EVENTS
from service.cli.help import PROGRAM, examples
from service.cli.output import note, print_fields, print_json
from service.cli.session import Json, duration_option

if TYPE_CHECKING:
    from service.cli.produce.run import Outcome
    from wepeople_ingest_client import Tls

API_KEY: Final = "WEPEOPLE_API_KEY"
STDIN: Final = "-"
DEFAULT_SERVER: Final = "127.0.0.1:50051"
DEFAULT_PATIENCE_SECONDS: Final = 60
LOOPBACK: Final = ("127.", "localhost:", "[::1]:")
FAILED: Final = 1
EXAMPLES: Final = examples(
    "produce events.ndjson",
    "produce events.ndjson --key-file key.txt --rejected rejected.ndjson",
    "produce - --producer-id crm-export-2026-04-19 --server ingest.example:443 < events.ndjson",
)

EventFile = Annotated[
    str,
    typer.Argument(metavar="FILE", help="Events, one JSON object a line; - is standard input."),
]
ProducerId = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="In whose name, 1 to 200 characters. With the same ID always give the same lines; "
        "more may be added at the end. By default the file is known by its content, and is "
        "another one when anything is added.",
        show_default=False,
    ),
]
Server = Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the gRPC API is.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"A file with the API key. Default: the key is in {API_KEY}.",
        show_default=False,
    ),
]
Batch = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=MAX_BATCH_EVENTS,
        help="At most so many lines a batch. Another run may have another number.",
    ),
]
Rejected = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Append rejected lines to this file, each as {line, code, message, event}; by "
        "default they are told on stderr. Lines that are no events are told by every run, what "
        "the server rejects by the one that sent it.",
        show_default=False,
    ),
]
Patience = Annotated[
    int | None,
    duration_option("How long to go on trying a server that does not answer. Default: 60s."),
]
Authority = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        help="PEM file of the authority that the server's TLS certificate is from.",
        show_default=False,
    ),
]
ClientCertificate = Annotated[
    Path | None,
    typer.Option(
        "--cert",
        metavar="FILE",
        help="PEM file with a certificate of the client, for servers that want one (mutual TLS).",
        show_default=False,
    ),
]
ClientKey = Annotated[
    Path | None,
    typer.Option(
        "--cert-key",
        metavar="FILE",
        help="PEM file with the private key of --cert.",
        show_default=False,
    ),
]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="Without TLS. On a loopback address that is the default."),
]


def produce(
    file: EventFile,
    producer_id: ProducerId = None,
    server: Server = DEFAULT_SERVER,
    key_file: KeyFile = None,
    batch: Batch = MAX_BATCH_EVENTS,
    rejected: Rejected = None,
    patience: Patience = None,
    ca: Authority = None,
    certificate: ClientCertificate = None,
    certificate_key: ClientKey = None,
    insecure: Insecure = False,
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
    is_regular = file != STDIN and _is_regular(file)
    if not producer_id and not is_regular:
        raise typer.BadParameter(
            "is needed for what can be read only once", param_hint="'--producer-id'"
        )
    key = _key(key_file)
    if not re.fullmatch(r"[^\s/]+:\d{1,5}", server):
        raise typer.BadParameter(f"{server!r} is not HOST:PORT", param_hint="'--server'")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the library's own words on stderr
    from service.cli.produce.run import Options, run

    tls = _tls(server, ca, certificate, certificate_key, insecure)
    patience_seconds = patience or DEFAULT_PATIENCE_SECONDS
    source = None if file == STDIN else Path(file)
    outcome = run(
        Options(
            source,
            is_regular,
            producer_id,
            server,
            key,
            tls,
            batch,
            rejected,
            patience_seconds,
        )
    )
    if outcome.failure is None or as_json:
        _print(outcome, as_json)
    _note_the_end(outcome, rejected)
    if not (outcome.finished and outcome.summary.all_stored):
        raise typer.Exit(FAILED)


def _note_the_end(outcome: Outcome, rejected: Path | None) -> None:
    """Say on stderr why the run has ended early, and that lines were rejected.

    Raises the OSError that ended it, which the program reports.
    """
    from service.cli.produce.run import GO_ON
    from wepeople_ingest_client import ProducerError

    summary, failure = outcome.summary, outcome.failure
    if isinstance(failure, OSError):
        raise failure
    if failure is not None:
        note(f"{PROGRAM}: {failure}")
    if isinstance(failure, ProducerError):
        note(f"{summary.lines:,} lines are done with; the same command goes on after them.")
    if failure is None and not outcome.finished:
        note(f"{PROGRAM}: interrupted. {GO_ON}")
    if summary.rejected and rejected is not None:
        note(f"{summary.rejected:,} lines were rejected: see {rejected}.")
    if summary.already_rejected:
        note(
            f"{summary.already_rejected:,} lines were rejected before: when an earlier run sent "
            "them, or with an ack that was lost."
        )


def _print(outcome: Outcome, as_json: bool) -> None:
    summary = outcome.summary
    rate = round(summary.sent / summary.seconds) if summary.seconds else 0
    if as_json:
        print_json(
            {
                "producerId": outcome.producer_id,
                "finished": outcome.finished,
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
        "producer id": outcome.producer_id,
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


def _key(file: Path | None) -> str:
    key = (os.environ.get(API_KEY, "") if file is None else file.read_text()).strip()
    if not key:
        where = f"set {API_KEY}, or give --key-file" if file is None else f"{file} is empty"
        raise typer.BadParameter(f"there is no API key: {where}", param_hint="'--key-file'")
    if not (key.isascii() and key.isprintable()):
        raise typer.BadParameter("that is not an API key", param_hint="'--key-file'")
    return key


def _tls(
    server: str, ca: Path | None, certificate: Path | None, key: Path | None, insecure: bool
) -> Tls | None:
    from wepeople_ingest_client import Tls

    given = ca or certificate or key
    if insecure and given:
        raise typer.BadParameter("contradicts files for TLS", param_hint="'--insecure'")
    if (certificate is None) != (key is None):
        raise typer.BadParameter("must be given together", param_hint="'--cert', '--cert-key'")
    if insecure or (server.startswith(LOOPBACK) and not given):
        return None
    return Tls(ca, certificate, key)
