"""The rows of a report, each with the load that is measured for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from service.bench.load import CopyLoad, HttpLoad, Load, StreamLoad, UnaryLoad
from service.bench.resources import Processes
from service.bench.sample import json_batch
from service.bench.target import Bare, BenchError, Target
from service.bench.templates import ID
from service.bench.tenant import Tenant
from service.bench.yardsticks import ALONE_PATH, ECHO_PATH

EVENTS_PATH: Final = "/api/v1/ingest/events"


@dataclass(frozen=True)
class Destination:
    """The addresses that loads are sent to, and the tenant that they are sent for."""

    target: Target
    tenant: Tenant
    bare: Bare


# The second argument: events a second of each row measured before in the same round, by name.
MakeLoad = Callable[[Destination, Mapping[str, float]], Load]


@dataclass(frozen=True)
class Foreign:
    """The load of a foreign service; its processes and its database's, as far as they are seen."""

    make: Callable[[], Load]
    service: Processes
    database: Processes


@dataclass(frozen=True)
class Row:
    """A line of the report. ``yardstick``: the row of the same round that it is compared with.

    ``parts``: rows of the same round; its latency is compared with all of theirs together.
    ``is_bare``: whether the load goes to a yardstick that is served, and the CPU time is its.
    ``seconds``: of its own in each round; None for those of the run.
    """

    name: str
    title: str
    load: MakeLoad | Foreign
    unit: Literal["events", "requests"] = "events"
    yardstick: str | None = None
    is_bare: bool = False
    seconds: float | None = None
    parts: tuple[str, ...] = ()

    def make(self, destination: Destination | None, found: Mapping[str, float]) -> Load:
        """The load of a round. A foreign one needs no destination."""
        if isinstance(self.load, Foreign):
            return self.load.make()
        assert destination is not None
        return self.load(destination, found)

    def processes(self, destination: Destination | None) -> tuple[Processes, Processes]:
        """The processes of the service and of the database whose CPU time is the load's."""
        if isinstance(self.load, Foreign):
            return self.load.service, self.load.database
        assert destination is not None
        serving = destination.bare.processes if self.is_bare else destination.target.service
        return serving, destination.target.database


@dataclass(frozen=True)
class Measurement:
    """Rows that are measured at the same time; one whose load goes to a yardstick is alone."""

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Stage:
    """Measurements that take turns, round after round, after ``fill`` more events are stored."""

    measurements: list[Measurement] = field(default_factory=list)
    fill: int = 0


def http_url(destination: Destination) -> str:
    """The URL of the HTTP API; raises :class:`BenchError` if it was not given."""
    if destination.target.http is None:
        raise BenchError("there is no URL of the HTTP API: give it with --server")
    return destination.target.http


def grpc_server(destination: Destination) -> str:
    """The HOST:PORT of the gRPC API; raises :class:`BenchError` if it was not given."""
    if destination.target.grpc is None:
        raise BenchError("there is no HOST:PORT of the gRPC API: give it with --server")
    return destination.target.grpc


def _posts(
    destination: Destination,
    url: str,
    batch: int,
    connections: int,
    rate: float | None = None,
    idempotency_keys: bool = False,
    skip_missed: bool = False,
) -> HttpLoad:
    """The tenant's batches. ``idempotency_keys``: a different one with each request."""
    headers = {
        "Authorization": f"Bearer {destination.tenant.key}",
        "Content-Type": "application/json",
        **({"Idempotency-Key": ID} if idempotency_keys else {}),
    }
    body = json_batch(batch).decode()
    return HttpLoad(url, headers, body, batch, connections, rate, skip_missed=skip_missed)


def http(name: str, title: str, yardstick: str | None, **options: object) -> Row:
    """Batches over HTTP; ``options`` are those of :func:`_posts`."""

    def load(destination: Destination, _found: Mapping[str, float]) -> Load:
        return _posts(destination, http_url(destination) + EVENTS_PATH, **options)  # type: ignore[arg-type]

    unit: Literal["events", "requests"] = "requests" if options["batch"] == 1 else "events"
    return Row(name, title, load, unit, yardstick)


def echo(name: str, title: str, batch: int, connections: int) -> Row:
    """The same requests to the application that answers each with its own body."""
    return Row(
        name,
        title,
        lambda destination, _: _posts(
            destination, destination.bare.http + ECHO_PATH, batch, connections
        ),
        "requests",
        is_bare=True,
    )


def alone(name: str, title: str, connections: int, yardstick: str) -> Row:
    """Requests of one event, each stored in a transaction of its own without being judged."""

    def load(destination: Destination, _found: Mapping[str, float]) -> Load:
        url = destination.bare.http + ALONE_PATH
        return _posts(destination, url, 1, connections, idempotency_keys=True)

    return Row(name, title, load, "requests", yardstick, is_bare=True)


def streams(
    name: str,
    title: str,
    yardstick: str | None,
    batch: int,
    producers: int,
    rate: Callable[[Mapping[str, float]], float | None] = lambda _: None,
) -> Row:
    """Batches in gRPC streams; ``rate``: events a second, from the speeds of earlier rows."""

    def load(destination: Destination, found: Mapping[str, float]) -> Load:
        events = rate(found)
        return StreamLoad(
            grpc_server(destination),
            destination.target.tls,
            destination.tenant.key,
            batch,
            producers,
            None if events is None else events / batch,
        )

    return Row(name, title, load, "events", yardstick)


def unary(name: str, title: str, yardstick: str | None, **options: object) -> Row:
    """Batches in unary gRPC calls; ``options`` are the fields of :class:`UnaryLoad`."""

    def load(destination: Destination, _found: Mapping[str, float]) -> Load:
        target, key = destination.target, destination.tenant.key
        return UnaryLoad(grpc_server(destination), target.tls, key, **options)  # type: ignore[arg-type]

    unit: Literal["events", "requests"] = "requests" if options["batch"] == 1 else "events"
    return Row(name, title, load, unit, yardstick)


def bare_unary(name: str, title: str, batch: int, calls: int) -> Row:
    """The same calls to the server that answers without storing."""
    return Row(
        name,
        title,
        lambda destination, _: UnaryLoad(
            destination.bare.grpc, False, destination.tenant.key, batch, calls
        ),
        "requests",
        is_bare=True,
    )


def copy_load(destination: Destination, rows: int | None = None) -> CopyLoad:
    """Rows by COPY, without the service."""
    return CopyLoad(destination.tenant.storage, rows)


COPY: Final = Row(
    "copy",
    "COPY by psycopg, 5,000 rows a transaction",
    lambda destination, _: copy_load(destination),
)
