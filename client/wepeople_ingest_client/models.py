"""The values of the REST API: what is sent, and what comes back.

Names are Python's here and the API's on the wire (``event_type`` is ``eventType``). A member that
is None is left out. The service judges the values; nothing is checked when they are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import msgspec

from wepeople_ingest_client.codes import RETRY_BY_CODE, Retry

EventCategory: TypeAlias = Literal[
    "communication", "project_management", "code", "calendar", "design", "ai_tools", "other"
]
MetricUnit: TypeAlias = Literal["count", "minutes", "ratio", "percentage", "score"]


class Actor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The person an event or a snapshot is about, named in at least one of three ways.

    ``worker_id`` outranks ``external_id``, the id in your own system, which outranks ``email``.
    A person that only the other two name is added to the organization, as ``display_name``.
    """

    worker_id: str | None = None
    external_id: str | None = None
    email: str | None = None
    display_name: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One thing that a person did.

    ``timestamp`` is a datetime with a time zone or an RFC 3339 text with an offset; without it, the
    time of receipt counts. ``duration`` is in whole seconds, up to 86,400. ``metadata`` is any JSON
    object of up to 16,384 bytes; a Decimal in it keeps every digit.
    """

    event_type: str
    category: EventCategory
    actor: Actor
    timestamp: datetime | str | None = None
    duration: int | None = None
    metadata: Mapping[str, Any] | None = None


class DetailedMetric(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A number, with its unit and what to call it (up to 200 characters)."""

    value: float | Decimal
    unit: MetricUnit | None = None
    label: str | None = None


Metric: TypeAlias = float | Decimal | str | DetailedMetric


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The metrics of a person at a moment; ``snapshot_type`` names the card that they replace.

    ``metrics`` is up to 16,384 bytes as JSON: names with a finite number, a text of up to 200
    characters, or a :class:`DetailedMetric`. ``timestamp`` and ``metadata`` are as for an event.
    """

    snapshot_type: str
    actor: Actor
    metrics: Mapping[str, Metric]
    timestamp: datetime | str | None = None
    metadata: Mapping[str, Any] | None = None


# A mapping has the members of the JSON document, under their names on the wire.
AnyEvent: TypeAlias = Event | Mapping[str, Any]
AnySnapshot: TypeAlias = Snapshot | Mapping[str, Any]


class App(msgspec.Struct, frozen=True, rename="camel"):
    """The app that a key belongs to."""

    id: str
    slug: str
    name: str


class PingResult(msgspec.Struct, frozen=True, rename="camel"):
    """Whom a key speaks for."""

    organization_id: str
    app: App


class AcceptedEvent(msgspec.Struct, frozen=True):
    """An event that is stored; ``index`` is its place in the list that was given, from 0."""

    index: int
    event_type: str
    timestamp: datetime  # in UTC


class RejectedEvent(msgspec.Struct, frozen=True):
    """An event that is not stored, and why; ``index`` is its place in the list that was given."""

    index: int
    code: str
    message: str


class BatchResult(msgspec.Struct, frozen=True):
    """What became of each event of a list, by its place in the list.

    ``request_ids`` has the id of each request that the list took, in order.
    """

    request_ids: tuple[str, ...] = ()
    accepted: tuple[AcceptedEvent, ...] = ()
    rejected: tuple[RejectedEvent, ...] = ()

    @property
    def judged(self) -> int:
        """How many events from the beginning of the list the service has judged."""
        return len(self.accepted) + len(self.rejected)

    @property
    def retryable(self) -> tuple[int, ...]:
        """The places of the rejected events that may be accepted later as they are.

        Each of them needs a change of the organization first, as of its quota or of the app's
        whitelist. Send them again as a list of their own, which gets an idempotency key of its own.
        The other rejected events never succeed unchanged.
        """
        return tuple(
            one.index
            for one in self.rejected
            if RETRY_BY_CODE.get(one.code, Retry.NEVER) is not Retry.NEVER
        )


class Worker(msgspec.Struct, frozen=True, rename="camel"):
    """The person a snapshot is about, as the organization knows them."""

    id: str
    display_name: str


class SnapshotResult(msgspec.Struct, frozen=True, rename="camel"):
    """A snapshot that is stored."""

    request_id: str
    snapshot_type: str
    worker: Worker
