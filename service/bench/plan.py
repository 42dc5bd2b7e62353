"""What a run measures: rows of the report, each with the load behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from core.limits import MAX_BATCH_EVENTS
from service.bench.load import CopyLoad, HttpLoad, Load, StreamLoad
from service.bench.target import BenchError, Target, Tenant
from service.bench.yardsticks import ALONE_PATH, ECHO_PATH

EVENTS_PATH: Final = "/api/v1/ingest/events"
# One-event requests beside a stream: enough for a percentile, too few to be a load themselves.
BESIDE_REQUESTS_PER_SECOND: Final = 200.0
BESIDE_CONNECTIONS: Final = 16
# The slowest that a stream goes at half of its speed: half of nothing is no rate.
MIN_BATCHES_PER_SECOND: Final = 1.0

Protocol = Literal["http", "grpc", "both"]


@dataclass(frozen=True)
class Places:
    """Where loads go."""

    target: Target
    tenant: Tenant
    bare: str  # the URL of the HTTP yardsticks


# ``found``: events a second of the rows measured before it in the same round.
MakeLoad = Callable[[Places, Mapping[str, float]], Load]


@dataclass(frozen=True)
class Row:
    """A line of the report. ``yardstick``: the row of the same round that it is compared with."""

    name: str
    title: str
    load: MakeLoad
    unit: Literal["events", "requests"] = "events"
    yardstick: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Rows that are measured at the same time."""

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Stage:
    """Measurements that take turns, round after round, after ``fill`` more events are stored."""

    measurements: list[Measurement] = field(default_factory=list)
    fill: int = 0


def http(name: str, title: str, yardstick: str | None, **options: object) -> Row:
    """Batches over HTTP; options as those of :class:`HttpLoad`."""

    def load(places: Places, _found: Mapping[str, float]) -> Load:
        if places.target.http is None:
            raise BenchError("there is no URL of the HTTP API: give it with --server")
        key = places.tenant.key
        return HttpLoad(places.target.http, EVENTS_PATH, key, **options)  # type: ignore[arg-type]

    unit: Literal["events", "requests"] = "requests" if options["batch"] == 1 else "events"
    return Row(name, title, load, unit, yardstick)


def echo(name: str, title: str, batch: int, connections: int) -> Row:
    """The same requests to the echo."""
    return Row(
        name,
        title,
        lambda places, _: HttpLoad(places.bare, ECHO_PATH, places.tenant.key, batch, connections),
        "requests",
    )


def alone(name: str, title: str, connections: int, yardstick: str) -> Row:
    """The same requests of one event, each in a transaction of its own and nothing judged."""

    def load(places: Places, _found: Mapping[str, float]) -> Load:
        key = places.tenant.key
        return HttpLoad(places.bare, ALONE_PATH, key, 1, connections, idempotency_keys=True)

    return Row(name, title, load, "requests", yardstick)


def streams(
    name: str,
    title: str,
    yardstick: str | None,
    batch: int,
    producers: int,
    rate: Callable[[Mapping[str, float]], float | None] = lambda _: None,
) -> Row:
    """Batches in gRPC streams; ``rate``: events a second, from what was found before."""

    def load(places: Places, found: Mapping[str, float]) -> Load:
        if places.target.grpc is None:
            raise BenchError("there is no HOST:PORT of the gRPC API: give it with --server")
        events = rate(found)
        return StreamLoad(
            places.target.grpc,
            places.target.tls,
            places.tenant.key,
            batch,
            producers,
            None if events is None else events / batch,
        )

    return Row(name, title, load, "events", yardstick)


def copy_load(places: Places, rows: int | None = None) -> CopyLoad:
    """Rows straight into the table."""
    return CopyLoad(places.target.conninfo, *places.tenant.uuids, rows)


COPY: Final = Row(
    "copy", "COPY by psycopg, 5,000 rows a transaction", lambda places, _: copy_load(places)
)


def usual(protocol: Protocol, *, yardsticks: bool) -> list[Stage]:
    """What is measured if nothing else is asked for."""
    full = MAX_BATCH_EVENTS
    by_copy = "copy" if yardsticks else None
    measurements = [Measurement((COPY,))] if yardsticks else []
    if protocol != "http":
        one = streams("grpc_1", "gRPC stream, 500 a batch, 1 producer", by_copy, full, 1)
        four = streams("grpc_4", "gRPC streams, 500 a batch, 4 producers", by_copy, full, 4)
        measurements += [Measurement((one,)), Measurement((four,))]
    if protocol != "grpc":
        small = http(
            "http_1",
            "HTTP, 1 a request, 64 connections",
            "echo_1" if yardsticks else None,
            batch=1,
            connections=64,
            idempotency_keys=True,
        )
        large = http(
            "http_500", "HTTP, 500 a request, 8 connections", by_copy, batch=full, connections=8
        )
        if yardsticks:
            echo_small = echo("echo_1", "echo, 1 a request, 64 connections", 1, 64)
            small_alone = alone("alone_1", "a transaction a request, 64 connections", 64, "http_1")
            echo_large = echo("echo_500", "echo, 500 a request, 8 connections", full, 8)
            rows = [echo_small, small, small_alone, echo_large, large]
        else:
            rows = [small, large]
        measurements += [Measurement((row,)) for row in rows]
    if protocol == "both":
        beside = (
            streams(
                "half_grpc",
                "gRPC stream at half of its speed …",
                None,
                full,
                1,
                lambda found: max(found["grpc_1"] / 2, MIN_BATCHES_PER_SECOND * full),
            ),
            http(
                "half_http",
                "… and HTTP, 1 a request, 200 a second",
                None,
                batch=1,
                connections=BESIDE_CONNECTIONS,
                rate=BESIDE_REQUESTS_PER_SECOND,
                idempotency_keys=True,
            ),
        )
        measurements.append(Measurement(beside))
    return [Stage(measurements)]


@dataclass(frozen=True)
class Asked:
    """A load of the operator's own choice; None: what is usual. ``rate``: events a second."""

    protocol: Protocol
    batch: int | None
    concurrency: int | None
    rate: int | None
    idempotency_keys: bool


def chosen(asked: Asked, *, yardsticks: bool) -> list[Stage]:
    """The load that was asked for, over each protocol, and its yardsticks."""
    measurements = [Measurement((COPY,))] if yardsticks else []
    measurements += _chosen(asked, yardsticks, "")
    return [Stage(measurements)]


def growth(asked: Asked, stored: int) -> list[Stage]:
    """The load that was asked for with no events stored, and with ``stored`` of them."""
    without = _chosen(asked, False, "")
    filled = _chosen(asked, False, f", {stored:,} stored")
    return [
        Stage(without),
        Stage(
            [
                Measurement(
                    tuple(
                        Row(f"{row.name}_stored", row.title, row.load, row.unit, row.name)
                        for row in measurement.rows
                    )
                )
                for measurement in filled
            ],
            stored,
        ),
    ]


def _chosen(asked: Asked, yardsticks: bool, suffix: str) -> list[Measurement]:
    batch = asked.batch or MAX_BATCH_EVENTS
    pace = "" if asked.rate is None else f", {asked.rate:,} events/s"
    measurements = []
    if asked.protocol != "http":
        producers = asked.concurrency or 1
        many = "1 producer" if producers == 1 else f"{producers} producers"
        title = f"gRPC stream, {batch} a batch, {many}{pace}{suffix}"
        by_copy = "copy" if yardsticks else None
        rate = asked.rate
        row = streams("grpc", title, by_copy, batch, producers, lambda _: rate)
        measurements.append(Measurement((row,)))
    if asked.protocol != "grpc":
        connections = asked.concurrency or 8
        what = f"{batch} a request, {connections} connections"
        if yardsticks:
            measurements.append(Measurement((echo("echo", f"echo, {what}", batch, connections),)))
        by = ("echo" if batch == 1 else "copy") if yardsticks else None
        row = http(
            "http",
            f"HTTP, {what}{pace}{suffix}",
            by,
            batch=batch,
            connections=connections,
            rate=None if asked.rate is None else asked.rate / batch,
            idempotency_keys=asked.idempotency_keys,
        )
        measurements.append(Measurement((row,)))
    return measurements
