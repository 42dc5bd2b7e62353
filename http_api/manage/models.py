"""The bodies of the management API, as pydantic models in camelCase.

The members of answers are those that core/admin/as_json.py gives them.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from core import limits

T = TypeVar("T")

Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
# A document of a client, as it was sent.
AnyObject = Annotated[dict[str, Any], WithJsonSchema({"type": "object"})]
Scope = Literal["read", "write"]
State = Literal["active", "expired", "revoked"]


class Model(BaseModel):
    """A JSON object with members in camelCase; unknown members of a request are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class ErrorBody(Model):
    """The reason for a refusal. Decide by `code`; `message` is for people."""

    code: str
    message: str
    request_id: str
    docs_url: str


class Error(Model):
    """The envelope of every error."""

    error: ErrorBody


class Page(Model, Generic[T]):
    """A page of a list. The cursor leads to the next one; null: it was the last."""

    items: list[T]
    next_cursor: str | None


class Operator(Model):
    """An operator, without the token. `endsIn`: its last characters."""

    id: str
    name: str
    scope: Scope
    ends_in: str
    state: State
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    last_used_at: Timestamp | None


class Organization(Model):
    """An organization. `monthlyQuota`: events a calendar month, or null for no quota.

    `cell`: the cell it lives in, where there are several.
    """

    id: str
    name: str
    developer_api: bool
    monthly_quota: int | None
    requests_per_second: int
    created_at: Timestamp
    cell: str | None = None


class OrganizationPage(Page[Organization]):
    """Organizations by name. `leftOut`: the cells that did not answer; theirs are missing."""

    left_out: list[str]


class NewOrganization(Model):
    """An organization to be made. Without a cell, the open one with the fewest takes it."""

    name: str = Field(examples=["Acme"])
    monthly_quota: StrictInt | None = Field(None, examples=[100_000])
    developer_api: StrictBool = True
    requests_per_second: StrictInt = limits.DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND
    cell: str | None = Field(None, pattern=r"^[a-z0-9_]{1,63}$")


class OrganizationChange(Model):
    """The members to change; the others stay. `monthlyQuota`: null removes the quota."""

    name: str | None = Field(None, examples=["Acme Labs"])
    monthly_quota: StrictInt | None = Field(None, examples=[500_000])
    developer_api: StrictBool | None = None
    requests_per_second: StrictInt | None = None


class Extent(Model):
    """The rows that go with something; snapshots and events are counted up to a million."""

    removed: bool
    apps: int
    keys: int
    working_keys: int
    workers: int
    producers: int
    snapshots: int
    events: int


class OrganizationRemoval(Extent):
    """The removal of an organization, or what it would take with it."""

    organization: str


class AppRemoval(Extent):
    """The removal of an app, or what it would take with it."""

    app: str


class App(Model):
    """An app, with the event types that it may send."""

    id: str
    organization_id: str
    slug: str
    name: str
    source: str
    allowed_event_types: list[str]
    created_at: Timestamp


class AppPage(Page[App]):
    """Apps by slug."""


class NewApp(Model):
    """An app to be made."""

    slug: str = Field(examples=["crm-hub"])
    name: str = Field(examples=["CRM Hub"])
    allowed_event_types: list[str] = Field([], examples=[["ticket.resolved"]])


class EventTypes(Model):
    """Event types to put on a whitelist, or to take off it."""

    event_types: list[str] = Field(examples=[["ticket.resolved"]])


class Key(Model):
    """An API key, without the key itself. `endsIn`: its last characters."""

    id: str
    app_id: str
    organization_id: str
    ends_in: str
    state: State
    requests_per_second: int
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    last_used_at: Timestamp | None


class KeyPage(Page[Key]):
    """Keys, the oldest first, those that no longer work included."""


class MadeKey(Key):
    """A new key with the key itself, this once; `old`: the one that it replaces."""

    key: str
    old: Key | None = None


class NewKey(Model):
    """A key to be made. `expiresAt`: null for never."""

    expires_at: AwareDatetime | None = None
    requests_per_second: StrictInt = limits.DEFAULT_KEY_REQUESTS_PER_SECOND


class Rotation(Model):
    """The replacement of a key. `oldEndsAt`: a day from now, if it is not given."""

    old_ends_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None


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
