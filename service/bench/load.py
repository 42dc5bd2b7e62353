"""The messages between a run and its generator, the process that makes the load."""

from __future__ import annotations

from msgspec import Struct

from service.bench.recorder import Result
from service.bench.success import Success

WARM_UP_SECONDS = 1.0


class HttpLoad(Struct, frozen=True, tag="http"):
    """Requests of equal batches over connections that are kept.

    ``headers`` and ``body``: texts with placeholders (:mod:`service.bench.templates`). ``rate``:
    requests a second over all connections, None for a new one with each answer. ``skip_missed``:
    whether those are left out that were due while no connection was free.
    """

    url: str
    headers: dict[str, str]
    body: str
    batch: int
    connections: int
    rate: float | None = None
    method: str = "POST"
    success: Success = Success()
    skip_missed: bool = False


class StreamLoad(Struct, frozen=True, tag="grpc"):
    """Batches in streams, one for each producer, as many in flight as the server allows.

    ``rate``: batches a second over all producers, None for as many as the server takes.
    """

    server: str
    tls: bool
    key: str
    batch: int
    producers: int
    rate: float | None = None


class UnaryLoad(Struct, frozen=True, tag="unary"):
    """Unary calls of equal batches, so many at a time.

    ``rate``: calls a second in all, None for a new one with each answer. ``idempotency_keys``: a
    different one with each call. ``skip_missed``: whether those are left out that were due while
    all senders waited for an answer.
    """

    server: str
    tls: bool
    key: str
    batch: int
    calls: int
    rate: float | None = None
    idempotency_keys: bool = False
    skip_missed: bool = False


class CallLoad(Struct, frozen=True, tag="call"):
    """Unary calls of any method, so many at a time.

    ``method``: package, service and method, as ``package.Service/Method``. ``message``: JSON with
    placeholders. ``descriptors``: a FileDescriptorSet that has the method; None to ask the server's
    reflection. ``rate``: calls a second in all, None for a new one with each answer.
    ``skip_missed``: as of :class:`UnaryLoad`.
    """

    server: str
    tls: bool
    method: str
    metadata: dict[str, str]
    message: str
    descriptors: bytes | None
    batch: int
    calls: int
    rate: float | None = None
    success: Success = Success()
    skip_missed: bool = False


class Storage(Struct, frozen=True):
    """The database that a yardstick stores in, and the UUIDs of its organization and its app.

    ``schema``: of the cell; None for the tables that a session finds.
    """

    conninfo: str
    schema: str | None
    organization_id: str
    app_id: str


class CopyLoad(Struct, frozen=True, tag="copy"):
    """Rows by psycopg's binary COPY, over one connection. ``rows``: stop after so many."""

    storage: Storage
    rows: int | None = None


class InsertLoad(Struct, frozen=True, tag="insert"):
    """Single rows by psycopg, one INSERT a transaction.

    ``rate``: rows a second, without those that were due while one was written.
    """

    storage: Storage
    rate: float


Load = HttpLoad | StreamLoad | UnaryLoad | CallLoad | CopyLoad | InsertLoad


class Work(Struct, frozen=True):
    """Loads to be made at the same time."""

    loads: list[Load]
    seconds: float


class Began(Struct, frozen=True, tag="began"):
    """The warm-up is over."""


class Progress(Struct, frozen=True, tag="progress"):
    """The number of events of each load that were accepted since the warm-up."""

    events: list[int]


class Ended(Struct, frozen=True, tag="ended"):
    """The measured time is over; what is in flight may still be answered."""


class Done(Struct, frozen=True, tag="done"):
    """The figures of each load, and the CPU time that making them cost in the measured time."""

    results: list[Result]
    cpu_seconds: float


class Failed(Struct, frozen=True, tag="failed"):
    """The load could not be made."""

    reason: str


Message = Began | Progress | Ended | Done | Failed
