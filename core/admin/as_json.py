"""The records of operators as JSON has them, from the command line and from the management API."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Raw

from core import ids
from core.admin.apps import App, source
from core.admin.audit import AuditEntry
from core.admin.erasure import Erased
from core.admin.keys import ApiKey
from core.admin.operators import Operator
from core.admin.organizations import Organization
from core.admin.rejections import RejectionRecord
from core.admin.removal import Extent
from core.admin.snapshots import StoredSnapshot
from core.admin.timeline import TimelineEvent
from core.admin.traffic import AppMinute
from core.admin.usage import Usage
from core.admin.worker_activity import Activity
from core.admin.worker_merge import Moved
from core.admin.workers import WorkerDetails
from core.timestamps import format_us, from_datetime

# A JSON object. Documents of clients are in it as they were sent, as ``Raw``.
Json = dict[str, Any]


def operator(one: Operator, now_us: int) -> Json:
    """An operator, without the token."""
    return {
        "id": ids.text(ids.OPERATOR, one.id),
        "name": one.name,
        "scope": one.scope,
        "endsIn": one.hint,
        "state": one.state(now_us),
        "createdAt": moment(one.created_at),
        "expiresAt": moment(one.expires_at),
        "revokedAt": moment(one.revoked_at),
        "lastUsedAt": moment(one.last_used_at),
    }


def organization(one: Organization, cell: str | None) -> Json:
    """An organization; ``cell``: None where there is only one."""
    return {
        "id": ids.text(ids.ORGANIZATION, one.id),
        "name": one.name,
        "developerApi": one.developer_api,
        "monthlyQuota": one.monthly_quota,
        "requestsPerSecond": one.requests_per_second,
        "createdAt": moment(one.created_at),
        **({} if cell is None else {"cell": cell}),
    }


def app(one: App) -> Json:
    """An app with its whitelist."""
    return {
        "id": ids.text(ids.APP, one.id),
        "organizationId": ids.text(ids.ORGANIZATION, one.organization_id),
        "slug": one.slug,
        "name": one.name,
        "source": source(one.slug),
        "allowedEventTypes": one.allowed_event_types,
        "createdAt": moment(one.created_at),
    }


def key(one: ApiKey, now_us: int) -> Json:
    """A key, without the key itself."""
    return {
        "id": ids.text(ids.KEY, one.id),
        "appId": ids.text(ids.APP, one.app_id),
        "organizationId": ids.text(ids.ORGANIZATION, one.organization_id),
        "endsIn": one.hint,
        "state": one.state(now_us),
        "requestsPerSecond": one.requests_per_second,
        "createdAt": moment(one.created_at),
        "expiresAt": moment(one.expires_at),
        "revokedAt": moment(one.revoked_at),
        "lastUsedAt": moment(one.last_used_at),
    }


def new_key(one: ApiKey, text: str, now_us: int, old: ApiKey | None = None) -> Json:
    """A key with the key itself, and the one that it replaces."""
    return {
        **key(one, now_us),
        "key": text,
        **({} if old is None else {"old": key(old, now_us)}),
    }


def worker(one: WorkerDetails) -> Json:
    """A worker with the links of apps."""
    return {
        "id": ids.text(ids.WORKER, one.id),
        "displayName": one.display_name,
        "email": one.email,
        "otherEmails": list(one.other_emails),
        "createdAt": moment(one.created_at),
        "erasedAt": moment(one.erased_at),
        "links": [{"app": link.app_slug, "externalId": link.external_id} for link in one.links],
    }


def activity(found: Activity) -> Json:
    """The events and snapshots of a worker in numbers."""
    first, last = found.first_event_us, found.last_event_us
    return {
        "events": found.events,
        "allEventsCounted": found.is_whole,
        "firstEventAt": None if first is None else format_us(first),
        "lastEventAt": None if last is None else format_us(last),
        "snapshots": found.snapshots,
    }


def merged(from_id: UUID, into_id: UUID, moved: Moved) -> Json:
    """The merge of two workers, with what was moved."""
    return {
        "from": ids.text(ids.WORKER, from_id),
        "into": ids.text(ids.WORKER, into_id),
        "merged": True,
        "links": moved.links,
        "events": moved.events,
        "snapshots": moved.snapshots,
    }


def erased(worker_id: UUID, gone: Erased, *, content_kept: bool) -> Json:
    """The receipt of an erasure."""
    return {
        "worker": ids.text(ids.WORKER, worker_id),
        "erased": True,
        "contentKept": content_kept,
        "names": gone.names,
        "emails": gone.emails,
        "links": gone.links,
        "eventContents": gone.event_contents,
        "snapshotContents": gone.snapshot_contents,
        "idempotencyReceipts": gone.idempotency_receipts,
        "rejectedItems": gone.rejected_items,
    }


def event(one: TimelineEvent) -> Json:
    """An event, with the metadata as it was sent."""
    return {
        "id": ids.text(ids.EVENT, one.id),
        "receivedAt": format_us(one.received_us),
        "timestamp": moment(one.occurred_at),
        "eventType": one.event_type,
        "category": one.category,
        "source": source(one.app_slug),
        "appId": ids.text(ids.APP, one.app_id),
        "worker": _person(one.worker_id, one.worker_name),
        "duration": one.duration_seconds,
        "metadata": _raw(one.metadata),
    }


def snapshot(one: StoredSnapshot) -> Json:
    """A snapshot, with the metrics and the metadata as they were sent."""
    return {
        "snapshotType": one.snapshot_type,
        "current": one.is_card,
        "receivedAt": format_us(one.received_us),
        "timestamp": moment(one.occurred_at),
        "source": source(one.app_slug),
        "appId": ids.text(ids.APP, one.app_id),
        "worker": _person(one.worker_id, one.worker_name),
        "metrics": _raw(one.metrics),
        "metadata": _raw(one.metadata),
    }


def usage(name: str, month: Usage) -> Json:
    """The month of the organization of that name."""
    ahead = month.forecast
    ends_on = ahead and ahead.quota_ends_on
    return {
        "organization": name,
        "month": month.month.strftime("%Y-%m"),
        "quota": month.quota,
        "used": month.used,
        "left": month.left,
        "forecast": ahead
        and {"events": ahead.events, "quotaEndsOn": ends_on and ends_on.isoformat()},
        "accepted": month.used,
        "rejected": {
            code: {"events": refused.events, "requests": refused.requests}
            for code, refused in month.rejected.items()
        },
    }


def app_minute(one: AppMinute) -> Json:
    """An app's traffic in a minute."""
    return {
        "minute": moment(one.minute),
        "appId": ids.text(ids.APP, one.app_id),
        "app": one.app_slug,
        "requests": one.requests,
        "accepted": one.accepted,
        "rejected": one.rejected,
        "meanMilliseconds": round(one.mean_milliseconds, 3),
        "slowestMilliseconds": round(one.slowest_milliseconds, 3),
    }


def rejection(one: RejectionRecord) -> Json:
    """A refusal of a request or of an item."""
    return {
        "requestId": one.request_id,
        "rejectedAt": format_us(one.received_us),
        "index": one.index,
        "code": one.code,
        "field": one.field,
        "message": one.message,
        "app": one.app_slug,
        "keyHint": one.key_hint,
        "item": one.item,
    }


def audit_entry(one: AuditEntry) -> Json:
    """A change that somebody made."""
    organization_id = one.organization_id
    return {
        "at": moment(one.at),
        "hand": one.hand,
        "actor": one.actor,
        "action": one.action,
        "organizationId": organization_id and ids.text(ids.ORGANIZATION, organization_id),
        "organization": one.organization_name,
        "subject": one.subject,
        "before": one.before,
        "after": one.after,
        "done": one.is_done,
    }


def extent(found: Extent) -> Json:
    """The rows that a removal takes with it."""
    return {
        "apps": found.apps,
        "keys": found.keys,
        "workingKeys": found.working_keys,
        "workers": found.workers,
        "producers": found.producers,
        "snapshots": found.snapshots,
        "events": found.events,
    }


def moment(at: datetime | None) -> str | None:
    """A moment in RFC 3339, in UTC."""
    return None if at is None else format_us(from_datetime(at))


def _person(worker_id: UUID, name: str) -> Json:
    return {"id": ids.text(ids.WORKER, worker_id), "displayName": name}


def _raw(text: str | None) -> Raw | None:
    return None if text is None else Raw(text.encode())
