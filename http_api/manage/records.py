"""The bodies about what came in and what was done: people, events, numbers, refusals, changes.

The members of answers are those that core/admin/as_json.py gives them.
"""

from __future__ import annotations

from pydantic import Field

from http_api.manage.models import AnyObject, Model, Page, Timestamp


class Link(Model):
    """An app's own id for a worker."""

    app: str
    external_id: str


class Worker(Model):
    """A worker, with what apps call the person."""

    id: str
    display_name: str
    email: str | None
    other_emails: list[str]
    created_at: Timestamp
    erased_at: Timestamp | None
    links: list[Link]


class WorkerPage(Page[Worker]):
    """Workers in the order in which they were made."""


class NewWorker(Model):
    """A worker to be made ahead of the first event."""

    display_name: str = Field(examples=["Alex Chen"])
    email: str | None = Field(None, examples=["alex@acme.example"])


class WorkerChange(Model):
    """A new name, and if it is given a new e-mail; null: no e-mail any more."""

    display_name: str = Field(examples=["Alex Chen-Smith"])
    email: str | None = Field(None, examples=["alex@acme.example"])


class WorkerMerge(Model):
    """The worker that stays, the same person."""

    into: str = Field(examples=["wrk_01HP3K5V4J3M9NVT8XZKQ9YQ2E"])


class Activity(Model):
    """Events and snapshots of a worker; the events among the organization's latest million."""

    events: int
    all_events_counted: bool
    first_event_at: Timestamp | None
    last_event_at: Timestamp | None
    snapshots: int


class MergedWorker(Model):
    """A merge, with what was moved."""

    from_: str = Field(alias="from")
    into: str
    merged: bool
    links: int
    events: int
    snapshots: int


class ErasedWorker(Model):
    """The receipt of an erasure."""

    worker: str
    erased: bool
    content_kept: bool
    names: int
    emails: int
    links: int
    event_contents: int
    snapshot_contents: int
    idempotency_receipts: int
    rejected_items: int


class Person(Model):
    """A worker by name."""

    id: str
    display_name: str


class Event(Model):
    """An event of the timeline, with the metadata as it was sent."""

    id: str
    received_at: Timestamp
    timestamp: Timestamp
    event_type: str
    category: str
    source: str
    app_id: str
    worker: Person
    duration: int | None
    metadata: AnyObject | None


class EventPage(Page[Event]):
    """Events, the last received first."""


class Snapshot(Model):
    """A snapshot. `current`: it is the card that no later one has replaced."""

    snapshot_type: str
    current: bool
    received_at: Timestamp
    timestamp: Timestamp
    source: str
    app_id: str
    worker: Person
    metrics: AnyObject
    metadata: AnyObject | None


class SnapshotPage(Page[Snapshot]):
    """Snapshots: of the history the last received first, cards by worker, app and type."""


class Forecast(Model):
    """The month's end, if events go on as in the month so far."""

    events: int
    quota_ends_on: str | None


class RejectionCounts(Model):
    """Events rejected one by one, and requests refused as a whole."""

    events: int
    requests: int


class AppMinute(Model):
    """An app's traffic in a minute."""

    minute: Timestamp
    app_id: str
    app: str
    requests: int
    accepted: int
    rejected: int
    mean_milliseconds: float
    slowest_milliseconds: float


class Usage(Model):
    """The calendar month (UTC). `minutes`: the traffic of the last ones, if it is asked for."""

    organization: str
    month: str
    quota: int | None
    used: int
    left: int | None
    forecast: Forecast | None
    accepted: int
    rejected: dict[str, RejectionCounts]
    minutes: list[AppMinute] | None = None


class Rejection(Model):
    """A refusal of a request, or of the item of that index."""

    request_id: str
    rejected_at: Timestamp
    index: int | None
    code: str
    field: str | None
    message: str
    app: str
    key_hint: str
    item: str | None


class RejectionPage(Page[Rejection]):
    """Rejections, the latest first; the last 1,000 of an organization are kept."""


class AuditEntry(Model):
    """A change. `done`: false if nobody knows whether it was made, as after a crash."""

    at: Timestamp
    hand: str
    actor: str
    action: str
    organization_id: str | None
    organization: str | None
    subject: str
    before: AnyObject | None
    after: AnyObject | None
    done: bool


class AuditPage(Page[AuditEntry]):
    """Changes, the latest first."""
