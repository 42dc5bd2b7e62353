"""The bodies about who may send what: organizations, apps and keys, and the operator.

The members of answers are those that core/admin/as_json.py gives them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field, StrictBool, StrictInt

from core import limits
from http_api.manage.models import Model, Page, Timestamp

Scope = Literal["read", "write"]
State = Literal["active", "expired", "revoked"]


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
