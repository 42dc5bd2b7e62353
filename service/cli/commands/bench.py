"""``wepeople-ingest bench``: the load that a service takes, for planning its capacity."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from core.limits import MAX_BATCH_EVENTS
from service.cli.help import PROGRAM, examples
from service.cli.output import note, print_json
from service.cli.session import Json

if TYPE_CHECKING:
    from service.bench.measure import Options
    from service.bench.peer import Peer
    from service.bench.plan import Protocol
    from service.bench.report import Report

FAILED: Final = 1
DEFAULT_SECONDS: Final = 5.0
MIN_SECONDS: Final = 0.5
MAX_SECONDS: Final = 3_600.0
DEFAULT_ROUNDS: Final = 3
MAX_ROUNDS: Final = 100
MAX_CONCURRENCY: Final = 1_024
MAX_RATE: Final = 10_000_000
MAX_STORED: Final = 100_000_000
AS_FAST_AS_ANSWERED: Final = "max"
PROTOCOLS: Final = ("http", "grpc", "grpc-unary", "both", "at-rest")
EXAMPLES: Final = examples(
    "bench",
    "bench --protocol http --batch 50 --concurrency 16 --rate 20000 --seconds 30 --plot http.svg",
    "bench --protocol grpc --stored 10000000",
    "bench --server http://127.0.0.1:8080 --server 127.0.0.1:50051 --json",
    "bench --peer collector.toml --own --protocol http --batch 500",
)


ProtocolOption = Annotated[
    str,
    typer.Option(
        metavar="|".join(PROTOCOLS),
        help="What to measure. A chosen load over grpc is streams; grpc-unary is calls. at-rest: "
        "the latency of one request at a time.",
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=MAX_BATCH_EVENTS,
        help=f"Events a batch. Default: {MAX_BATCH_EVENTS}.",
        show_default=False,
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=MAX_CONCURRENCY,
        help="HTTP connections, gRPC producers or calls at a time. Default: 8, 1 or 16.",
        show_default=False,
    ),
]
Rate = Annotated[
    str | None,
    typer.Option(
        metavar="EVENTS/S|max",
        help="At a fixed rate, whatever the answers take; latency then counts from when a "
        "batch was due. max: each batch when the last one is answered. Default: max.",
        show_default=False,
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        metavar="S", min=MIN_SECONDS, max=MAX_SECONDS, help="Of each measurement in a round."
    ),
]
Rounds = Annotated[
    int, typer.Option(metavar="N", min=1, max=MAX_ROUNDS, help="The report has their medians.")
]
Stored = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=MAX_STORED,
        help="Measure without stored events, then with so many.",
        show_default=False,
    ),
]
IdempotencyKeys = Annotated[
    bool,
    typer.Option(
        "--idempotency-keys/--no-idempotency-keys",
        help="Whether requests of a chosen load have keys, each its own.",
    ),
]
Yardsticks = Annotated[
    bool,
    typer.Option(
        "--yardsticks/--no-yardsticks",
        help="Measure bare FastAPI, bare gRPC and COPY in the same run.",
    ),
]
Server = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL|HOST:PORT",
        help="A running service, on the database of the settings, instead of one of its own: "
        "the URL of its HTTP API, the HOST:PORT of its gRPC API, or both.",
        show_default=False,
    ),
]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="gRPC without TLS. On loopback that is the default."),
]
CellName = Annotated[
    str | None,
    typer.Option(
        "--cell",
        metavar="NAME",
        help="With --server: the cell to store in; if not given, as for a new organization.",
        show_default=False,
    ),
]
ServeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OPTION",
        help="Another option for the service that is started, like --serve-option=--demo.",
        show_default=False,
    ),
]
PeerOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE.toml", help="Measure what else takes events, as described there."),
]
Own = Annotated[
    bool, typer.Option("--own", help="With --peer: measure this service, too, in turn with it.")
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.svg",
        help="Draw throughput and latency over time.",
        dir_okay=False,
        show_default=False,
    ),
]


def bench(
    protocol: ProtocolOption = "both",
    batch: Batch = None,
    concurrency: Concurrency = None,
    rate: Rate = None,
    seconds: Seconds = DEFAULT_SECONDS,
    rounds: Rounds = DEFAULT_ROUNDS,
    stored: Stored = None,
    idempotency_keys: IdempotencyKeys = True,
    yardsticks: Yardsticks = True,
    server: Server = None,
    insecure: Insecure = False,
    cell: CellName = None,
    serve_option: ServeOption = None,
    peer: PeerOption = None,
    own: Own = False,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Measure what the service takes on this machine, beside yardsticks.

    Without options it measures full and single-event batches over both protocols, a few seconds
    each, in a few rounds. With --batch, --concurrency or --rate it measures that load.

    It starts a service of its own, with a database of its own that is gone afterwards. With
    --server it loads a running one, as an organization of its own that is removed with all its
    events, also after Ctrl-C. Figures of one machine mean little elsewhere; the ratios to the
    yardsticks (COPY by psycopg, bare FastAPI and gRPC servers) mean more. With --peer it loads what
    you run beside or instead of this service; the ratios are then to the first of them.
    """
    from service.bench.measure import Options, Source
    from service.bench.plan import Choice

    servers, serve_options = server or [], serve_option or []
    measured, events_per_second = _protocol(protocol, servers), _rate(rate)
    _check_servers(servers, serve_options)
    _check_plot(plot)
    load = (batch, concurrency, rate, stored)
    if protocol == "at-rest" and any(load):
        raise typer.BadParameter("at-rest has a load of its own", param_hint="--protocol")
    peers = _peers(peer or [])
    source = Source(servers, serve_options, insecure, cell) if own or not peers else None
    if source is None:
        _check_peers_alone(any((servers, serve_options, cell, *load)))
    choice = Choice(measured, batch, concurrency, events_per_second, idempotency_keys)
    report = _measure(Options(choice, source, peers, seconds, rounds, stored, yardsticks))
    if plot is not None:
        from service.bench.plot import svg

        plot.write_text(svg(report), encoding="utf-8")
    if as_json:
        print_json(report)
        return
    from service.bench.printing import print_report

    print_report(report)


def _protocol(given: str, servers: list[str]) -> Protocol:
    """The protocol to measure: of a single server, the one that it is given for."""
    if given not in PROTOCOLS:
        expected = f"{given!r} is none of {', '.join(PROTOCOLS)}"
        raise typer.BadParameter(expected, param_hint="--protocol")
    if given == "both" and len(servers) == 1:
        return "http" if "://" in servers[0] else "grpc"
    return given  # type: ignore[return-value]


def _rate(given: str | None) -> int | None:
    if given is None or given == AS_FAST_AS_ANSWERED:
        return None
    if not re.fullmatch(r"[0-9]{1,8}", given, re.ASCII) or not 1 <= int(given) <= MAX_RATE:
        raise typer.BadParameter(
            f"{given!r} is neither 1 to {MAX_RATE} events a second nor {AS_FAST_AS_ANSWERED}",
            param_hint="--rate",
        )
    return int(given)


def _check_servers(servers: list[str], serve_options: list[str]) -> None:
    urls = [given for given in servers if re.fullmatch(r"https?://[^\s/?#]+/?", given)]
    addresses = [given for given in servers if re.fullmatch(r"[^\s/]+:\d{1,5}", given)]
    for given in servers:
        if given not in urls and given not in addresses:
            raise typer.BadParameter(
                f"{given!r} is neither a URL nor HOST:PORT", param_hint="--server"
            )
    if len(urls) > 1 or len(addresses) > 1:
        raise typer.BadParameter("give one URL and one HOST:PORT", param_hint="--server")
    if servers and serve_options:
        raise typer.BadParameter("contradicts --server", param_hint="--serve-option")


def _peers(files: list[Path]) -> list[Peer]:
    from service.bench.peer import PeerError, read_peers

    try:
        return read_peers(files)
    except PeerError as error:
        raise typer.BadParameter(str(error), param_hint="--peer") from None


def _check_peers_alone(has_chosen_own: bool) -> None:
    if has_chosen_own:
        raise typer.BadParameter(
            "alone has its load in its file: give --own for what is to be of this service",
            param_hint="--peer",
        )


def _check_plot(plot: Path | None) -> None:
    if plot is not None and (plot.suffix.lower() != ".svg" or not plot.absolute().parent.is_dir()):
        raise typer.BadParameter(
            f"{str(plot)!r} is not the name of an .svg file in a folder that exists",
            param_hint="--plot",
        )


def _measure(options: Options) -> Report:
    """Run the measurement; exit 1 if it cannot be done or was interrupted."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the library's own words on stderr
    from service.bench.display import Display
    from service.bench.interruption import until_interrupted
    from service.bench.measure import measure
    from service.bench.target import BenchError

    display = Display()
    try:
        report = asyncio.run(until_interrupted(measure(options, display), display.interrupted))
    except BenchError as error:
        display.close()
        note(f"{PROGRAM}: {error}")
        raise typer.Exit(FAILED) from None
    finally:
        display.close()
    if report is None:
        raise typer.Exit(FAILED)  # interrupted, and said so
    return report
