"""The domain: who calls, what they send, what they are told. Frozen, slotted, without behaviour.

They are msgspec structs because those are built in C: a batch makes a thousand of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeVar
from uuid import UUID

from msgspec import Struct

from core.error_codes import ErrorCode
from core.json_text import JsonText

Endpoint = Literal["events", "snapshots"]
T = TypeVar("T")


class Actor(Struct, frozen=True, gc=False, cache_hash=True):
    """The person an event is about, named in up to three ways (contract section 5)."""

    worker_id: str | None = None
    external_id: str | None = None
    email: str | None = None
    display_name: str | None = None


class Event(Struct, frozen=True, gc=False):
    """One event as the client sent it: shape checked by the adapter, rules not yet by the core.

    ``timestamp``: RFC 3339 text, or microseconds since the epoch from a protocol that has its own
    time type, or None for the time of receipt. ``duration``: seconds; a float only if the client
    wrote one. ``metadata``: the JSON text as sent.
    """

    event_type: str
    category: str
    actor: Actor | None = None
    timestamp: str | int | None = None
    duration: int | float | None = None
    metadata: JsonText | None = None


class Malformed(Struct, frozen=True, gc=False):
    """An item that does not have the shape of an event; it is refused, its neighbours are not.

    ``issues`` say which field and why, without the item's position. ``content`` is what was sent,
    so that a resent batch can be recognized.
    """

    issues: tuple[str, ...]
    content: bytes


class EventColumns(Struct, frozen=True):
    """A batch of well-formed events, member by member, for decoders that work by columns.

    Each list has one item an event, but for ``kinds`` (type and category) and ``actors``, which
    many events have in common. ``kind_indexes`` and ``actor_indexes`` have one index into these for
    each event (:func:`distinct`).
    """

    kind_indexes: Sequence[int]
    kinds: Sequence[tuple[str, str]]
    actor_indexes: Sequence[int]
    actors: Sequence[Actor | None]
    timestamps: Sequence[str | int | None]
    durations: Sequence[int | float | None]
    metadata: Sequence[JsonText | None]

    def __len__(self) -> int:
        return len(self.kind_indexes)

    def __iter__(self) -> Iterator[Event]:
        return map(
            Event,
            map([event_type for event_type, _ in self.kinds].__getitem__, self.kind_indexes),
            map([category for _, category in self.kinds].__getitem__, self.kind_indexes),
            map(self.actors.__getitem__, self.actor_indexes),
            self.timestamps,
            self.durations,
            self.metadata,
        )


def distinct(values: Iterable[T]) -> tuple[list[int], list[T]]:
    """The index of each value among the distinct ones, and the distinct ones in order of coming."""
    indexes: dict[T, int] = {}
    return [indexes.setdefault(value, len(indexes)) for value in values], list(indexes)


# The events of a batch, in either form: both have a length and iterate over events in their order.
Events = Sequence[Event | Malformed] | EventColumns


class StreamPosition(Struct, frozen=True, gc=False):
    """The position of a batch: its producer, the stream's epoch, and from 1 its number."""

    producer_id: str
    epoch: int
    sequence: int


class EventBatch(Struct, frozen=True):
    """The events of one request or one message of a stream, decided on together.

    ``streamed``: it came in a stream, and is answered with a receipt even if nothing of it is
    accepted. ``position``: it counts in a producer's sequence. ``size_bytes``: the size of the body
    or message, which the events keep in memory.
    """

    request_id: str
    events: Events
    idempotency_key: str | None = None
    streamed: bool = False
    position: StreamPosition | None = None
    size_bytes: int = 0


class Snapshot(Struct, frozen=True, gc=False):
    """A metric card as the client sent it. ``metrics`` and ``metadata``: JSON text as sent."""

    snapshot_type: str
    metrics: JsonText
    actor: Actor | None = None
    timestamp: str | int | None = None
    metadata: JsonText | None = None


class SnapshotRequest(Struct, frozen=True):
    """The snapshot of one request. ``size_bytes``: see :class:`EventBatch`."""

    request_id: str
    snapshot: Snapshot
    idempotency_key: str | None = None
    size_bytes: int = 0


class Worker(Struct, frozen=True, gc=False):
    """A person of an organization, as events refer to it."""

    id: UUID
    display_name: str


class WorkerById(Struct, frozen=True, gc=False, cache_hash=True):
    """A worker named by id: one of the organization, or the event is refused."""

    organization_id: UUID
    worker_id: UUID


class WorkerByLink(Struct, frozen=True, gc=False, cache_hash=True):
    """A worker named by an app's own id for the person; made if nobody is linked to it yet."""

    organization_id: UUID
    app_id: UUID
    external_id: str


class WorkerByEmail(Struct, frozen=True, gc=False, cache_hash=True):
    """A worker named by e-mail, in the form that is compared; made if nobody has it."""

    organization_id: UUID
    email_key: str


# How an actor names its worker: the key of caches and of joint look-ups.
WorkerName = WorkerById | WorkerByLink | WorkerByEmail


class Budget(Struct, frozen=True, gc=False):
    """The key's rate budget: requests a second, and how many are left right now."""

    limit: int
    remaining: int


class Rejection(Struct, frozen=True, gc=False):
    """One refused item: its position in the request, the code, and why, for a person."""

    index: int
    code: ErrorCode
    message: str


class AcceptedEvent(Struct, frozen=True, gc=False):
    """One stored event as it is echoed: ``timestamp`` in UTC with Z."""

    event_type: str
    timestamp: str


class Receipt(Struct, frozen=True):
    """The answer to a batch of which something was written, durably, before this existed.

    ``echoes``: of each of the ``accepted`` events; none of a streamed batch, whose ack only counts.
    ``replayed``: it was written by an earlier equal request, this one wrote nothing.
    ``duplicate``: its place in its producer's sequence was committed before, this wrote nothing.
    ``quota_left``: events left this month after it; None without a quota.
    """

    request_id: str
    accepted: int
    echoes: Sequence[AcceptedEvent]
    rejected: Sequence[Rejection]
    replayed: bool = False
    duplicate: bool = False
    quota_left: int | None = None


class SnapshotReceipt(Struct, frozen=True):
    """The answer to a stored snapshot. ``quota_left`` and ``replayed`` as in :class:`Receipt`."""

    request_id: str
    snapshot_type: str
    worker: Worker
    quota_left: int | None = None
    replayed: bool = False


class Caller(Struct, frozen=True, eq=False):
    """The app and organization behind a key, as of at most one second ago."""

    key_id: UUID
    organization_id: UUID
    app_id: UUID
    app_slug: str
    app_name: str
    developer_api: bool
    allowed_event_types: frozenset[str]
    key_requests_per_second: int
    organization_requests_per_second: int
    revoked: bool
    expires_us: int | None
