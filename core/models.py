"""The domain's values: callers, requests and receipts, without behaviour.

They are msgspec structs because those are made in C, and a batch needs a thousand of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Literal, TypeVar
from uuid import UUID

from msgspec import Struct, structs

from core.error_codes import ErrorCode
from core.json_text import JsonText, Stored
from core.tracing import Span

Endpoint = Literal["events", "snapshots"]
T = TypeVar("T")


class Actor(Struct, frozen=True, gc=False, cache_hash=True):
    """The person an event is about, named in up to three ways (contract section 5)."""

    worker_id: str | None = None
    external_id: str | None = None
    email: str | None = None
    display_name: str | None = None


class Event(Struct, frozen=True, gc=False):
    """One event as the client sent it: its adapter has checked the shape, no rule is applied yet.

    ``timestamp``: RFC 3339 text, or microseconds since the epoch from a protocol that has a time
    type of its own, or None for the time of receipt. ``duration``: seconds, a float only if the
    client wrote one. ``metadata``: the JSON text as sent.
    """

    event_type: str
    category: str
    actor: Actor | None = None
    timestamp: str | int | None = None
    duration: int | float | None = None
    metadata: JsonText | None = None


class Malformed(Struct, frozen=True, gc=False):
    """An item that does not have the shape of an event. It is refused, its neighbours are not.

    ``issues`` say which field is wrong and why, each without the item's path. ``content``: the item
    as sent, by which a batch that is sent again is recognized.
    """

    issues: tuple[str, ...]
    content: bytes


class EventColumns(Struct, frozen=True):
    """A batch of well-formed events by columns: its length is the number of events.

    Each column has one item an event, except ``kinds`` (event type and category) and ``actors``:
    many events share one of these, so they hold each value once, and ``kind_indexes`` and
    ``actor_indexes`` give each event's (:func:`distinct`). ``instants``: of the timestamps, in
    microseconds since the epoch, if all could be parsed together.
    """

    kind_indexes: Sequence[int]
    kinds: Sequence[tuple[str, str]]
    actor_indexes: Sequence[int]
    actors: Sequence[Actor | None]
    timestamps: Sequence[str | int | None]
    durations: Sequence[int | float | None]
    metadata: Sequence[JsonText | None]
    instants: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.kind_indexes)

    def __getitem__(self, piece: slice) -> EventColumns:
        return structs.replace(
            self,
            kind_indexes=self.kind_indexes[piece],
            actor_indexes=self.actor_indexes[piece],
            timestamps=self.timestamps[piece],
            durations=self.durations[piece],
            metadata=self.metadata[piece],
            instants=None if self.instants is None else self.instants[piece],
        )

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
    """Each value's index in the list of distinct values, and that list, by first occurrence."""
    indexes: defaultdict[T, int] = defaultdict(count().__next__)
    return [indexes[value] for value in values], list(indexes)


# The events of a batch, in either form. Both have a length and iterate over the events in order.
Events = Sequence[Event | Malformed] | EventColumns


class StreamPosition(Struct, frozen=True, gc=False):
    """A batch's place in its producer's sequence: the stream's epoch, and its number from 1 on."""

    producer_id: str
    epoch: int
    sequence: int


class EventBatch(Struct, frozen=True):
    """The events of one request or one stream message, written in one transaction.

    ``streamed``: the batch came on a stream. Its receipt tells what is left of the quota, and it
    gets one even if none of its events is accepted; it was admitted before it was read
    (core/access/admission.py). ``position``: set if a producer numbers its batches.
    ``size_bytes``: the size of the body or message, which the events keep in memory. ``stored`` and
    ``digest``: set if the batch was prepared (:func:`core.journal.pending_events.prepared`).
    ``span``: of the request or batch, if traces are on.
    """

    request_id: str
    events: Events
    idempotency_key: str | None = None
    streamed: bool = False
    position: StreamPosition | None = None
    size_bytes: int = 0
    stored: Stored | None = None
    digest: bytes | None = None
    span: Span | None = None


class Snapshot(Struct, frozen=True, gc=False):
    """A metric card as the client sent it. ``metrics`` and ``metadata``: JSON text as sent."""

    snapshot_type: str
    metrics: JsonText
    actor: Actor | None = None
    timestamp: str | int | None = None
    metadata: JsonText | None = None


class SnapshotRequest(Struct, frozen=True):
    """The snapshot of one request. ``size_bytes`` and ``span`` as in :class:`EventBatch`."""

    request_id: str
    snapshot: Snapshot
    idempotency_key: str | None = None
    size_bytes: int = 0
    span: Span | None = None


class Worker(Struct, frozen=True, gc=False):
    """A person of an organization, as events refer to one."""

    id: UUID
    display_name: str


class WorkerById(Struct, frozen=True, gc=False, cache_hash=True):
    """A worker named by id. If the organization has no such worker, the event is refused."""

    organization_id: UUID
    worker_id: UUID


class WorkerByLink(Struct, frozen=True, gc=False, cache_hash=True):
    """A worker named by an app's own id for the person. It is created if the id has no link."""

    organization_id: UUID
    app_id: UUID
    external_id: str


class WorkerByEmail(Struct, frozen=True, gc=False, cache_hash=True):
    """A worker named by e-mail, as e-mails are compared. It is created if nobody has the e-mail."""

    organization_id: UUID
    email_key: str


# The name by which an actor's worker is found: the key of caches and look-ups.
WorkerName = WorkerById | WorkerByLink | WorkerByEmail


class Budget(Struct, frozen=True, gc=False):
    """A key's rate budget: its requests a second, and the requests left right now."""

    limit: int
    remaining: int


class Rejection(Struct, frozen=True, gc=False):
    """One refused item: its index in the request, the code, and a message for a person."""

    index: int
    code: ErrorCode
    message: str


class AcceptedEvent(Struct, frozen=True, gc=False):
    """One stored event as its client is told of it.

    ``timestamp``: RFC 3339 in UTC with Z if it came as text, else microseconds since the epoch:
    each API has the form that it got, and the other is not made.
    """

    event_type: str
    timestamp: str | int


class Receipt(Struct, frozen=True):
    """The answer to a batch, made after its commit.

    ``echoes`` has one item for each accepted event, or none for a streamed batch. ``replayed``: an
    earlier equal request wrote the events, this one wrote nothing. ``duplicate``: the sequence
    number was committed before, this batch wrote nothing. ``quota_left``: events left in this month
    after the batch; None without a quota.
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
    """The app and organization behind an API key, with their rights as of at most a second ago.

    ``key_hint``: the key's last characters, to tell keys apart. ``cell``: the name of the cell that
    the organization lives in.
    """

    key_id: UUID
    key_hint: str
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
    cell: str
