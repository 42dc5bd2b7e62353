"""An organization of its own for each test, made as the command line makes it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from core import ids
from core.access.key_secrets import key_secrets
from core.admin import apps, keys, organizations, whitelist
from core.admin.cell_sessions import CellSession
from core.postgres import directory
from core.postgres.audit import Change
from core.postgres.directory import CellRecord
from tests.support.citus import connect_to_owner
from tests.support.driver import Driver
from tests.support.kept_sessions import kept_session
from tests.support.two_cells import WHERE, cell_session
from tests.support.waiting import WAIT_SECONDS, eventually

EVENT_TYPES: Final = ("ticket.resolved", "ticket.created", "deal.won")
FAST: Final = 100_000  # requests a second: no test but those about limits meets one
UNKNOWN_KEY = "wp_live_" + "0" * 32  # well-formed, and nobody's
NOBODY = ids.WORKER + "0" * 26  # the id of no worker

MADE_AT_ONCE: Final = 16  # organizations, by `make_tenants`

_numbers = itertools.count(1)


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000


def event(external_id: str = "crm-user-1", **members: Any) -> dict[str, Any]:
    """A valid event, with members replaced; a member given as ``...`` is left out."""
    whole = {
        "eventType": "ticket.resolved",
        "category": "project_management",
        "actor": {"externalId": external_id},
        **members,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def snapshot(external_id: str = "crm-user-1", **members: Any) -> dict[str, Any]:
    """A valid snapshot, with members replaced; a member given as ``...`` is left out."""
    whole = {
        "snapshotType": "tickets_open",
        "actor": {"externalId": external_id},
        "metrics": {"open": 12},
        **members,
    }
    return {name: value for name, value in whole.items() if value is not ...}


@dataclass
class Tenant:
    """An organization with one app and one key, and what the database holds of it."""

    database_url: str
    organization: organizations.Organization
    app: apps.App
    api_key: keys.ApiKey
    key: str
    cell: CellRecord

    async def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Run a query, for its rows if it has columns; ``%s`` are the parameters."""
        kept = kept_session(self.database_url, self.cell.name, self.connect)
        async with kept as db, db.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), parameters)
            if cursor.description:
                return await cursor.fetchall()
            assert not (cursor.statusmessage or "").startswith("SELECT"), "rows without columns"
            return []

    async def change_rights(self, statement: str, *parameters: object) -> None:
        """Run a statement by which servers have to hear of a change."""
        change = Change("test", self.organization.id, self.organization_id)
        async with self.in_cell() as cell, cell.changing(change):
            await cell.db.execute(statement.encode(), parameters)

    async def change_table(self, statement: str) -> None:
        """Run a statement that changes a table of the organization's cell."""
        async with self.in_cell() as cell:
            await cell.db.execute(statement.encode())

    async def connect(self) -> AsyncConnection[Any]:
        """A connection of the test's own, to the organization's cell; on Citus, at its owner."""
        if self.cell.is_citus:
            return await connect_to_owner(self.cell)
        return await directory.connect_to(self.cell, self.database_url)

    def in_cell(self) -> AbstractAsyncContextManager[CellSession]:
        """Sessions of the organization's cell and of the home database, for operators' work."""
        return cell_session(self.database_url, self.cell.name)

    async def events(self) -> list[dict[str, Any]]:
        """The organization's stored events in order of their ids; metadata as its text."""
        return await self.rows(
            "SELECT id, app_id, worker_id, event_type, category, occurred_at, duration_seconds, "
            "metadata::text AS metadata FROM events WHERE organization_id = %s ORDER BY id",
            self.organization.id,
        )

    async def workers(self) -> list[dict[str, Any]]:
        """The organization's workers in order of their ids."""
        return await self.rows(
            "SELECT id, display_name, email FROM workers WHERE organization_id = %s ORDER BY id",
            self.organization.id,
        )

    async def used(self) -> int:
        """The events charged to the organization's quota, all months together."""
        rows = await self.rows(
            "SELECT COALESCE(sum(used), 0)::bigint AS used FROM quota_usage "
            "WHERE organization_id = %s",
            self.organization.id,
        )
        return int(rows[0]["used"])

    async def update(self, **changes: Any) -> None:
        """Change the organization: monthly_quota, developer_api, requests_per_second."""
        async with self.in_cell() as cell:
            await organizations.update(cell, self.organization.id, **changes)

    async def allow(self, *event_types: str) -> None:
        """Whitelist event types."""
        async with self.in_cell() as cell:
            await whitelist.allow(cell, self.organization.id, self.app.id, event_types)

    async def deny(self, *event_types: str) -> None:
        """Take event types off the whitelist."""
        async with self.in_cell() as cell:
            await whitelist.deny(cell, self.organization.id, self.app.id, event_types)

    async def another_app(self, event_types: Iterable[str] = EVENT_TYPES) -> Tenant:
        """Another app of the same organization, with a key."""
        async with self.in_cell() as cell:
            slug = f"app-{next(_numbers)}"
            app = await apps.create(
                cell, self.organization, slug, slug.upper(), event_types, now_us()
            )
            return await self._with_key(cell, app)

    async def another_key(self, **options: Any) -> Tenant:
        """Another key of the same app: expires_us, requests_per_second."""
        async with self.in_cell() as cell:
            return await self._with_key(cell, self.app, **options)

    async def _with_key(self, cell: CellSession, app: apps.App, **options: Any) -> Tenant:
        secret = await key_secrets(cell.home, None)
        options = {"requests_per_second": FAST, **options}
        api_key, key = await keys.create(cell, app, secret, now_us(), **options)
        return Tenant(self.database_url, self.organization, app, api_key, key, self.cell)

    async def revoke(self) -> None:
        """Revoke the key."""
        async with self.in_cell() as cell:
            await keys.revoke(cell, self.api_key, now_us())

    async def expire(self) -> None:
        """Let the key expire now."""
        await self.change_rights(
            "UPDATE api_keys SET expires_at = now() WHERE organization_id = %s AND id = %s",
            self.organization.id,
            self.api_key.id,
        )

    async def cards(self) -> list[dict[str, Any]]:
        """The current snapshot cards in order of their types; metrics as their text."""
        return await self.rows(
            "SELECT snapshot_type, app_id, worker_id, occurred_at, metrics::text AS metrics, "
            "metadata::text AS metadata FROM snapshot_cards "
            "JOIN snapshot_history USING (organization_id, app_id, worker_id, snapshot_type, "
            "occurred_at) WHERE organization_id = %s AND id = snapshot_id "
            "ORDER BY snapshot_type, app_id, worker_id",
            self.organization.id,
        )

    async def history(self) -> list[dict[str, Any]]:
        """Every snapshot ever accepted, in order of arrival; metrics as their text."""
        return await self.rows(
            "SELECT snapshot_type, app_id, worker_id, occurred_at, metrics::text AS metrics "
            "FROM snapshot_history WHERE organization_id = %s ORDER BY id",
            self.organization.id,
        )

    @property
    def organization_id(self) -> str:
        """As clients see it."""
        return ids.text(ids.ORGANIZATION, self.organization.id)


async def until_somebody_waits_for(db: AsyncConnection[Any], tenant: Tenant) -> None:
    """Return once a statement waits for a lock of that connection; fails after twenty seconds."""
    # Not the one that the connection was told, which is a pooler's own.
    row = await (await db.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    pid = row[0]

    async def somebody_waits() -> bool:
        return bool(
            await tenant.rows(
                "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", pid
            )
        )

    await eventually(somebody_waits, "a statement waits for the lock", poll_seconds=0.005)


async def until_stored(tenant: Tenant, least: int, *, seconds: float = WAIT_SECONDS) -> None:
    """Return once that many events of the tenant are committed; fails after so many seconds."""

    async def enough() -> bool:
        return len(await tenant.events()) >= least

    await eventually(enough, f"{least} events are stored", seconds=seconds)


async def until_forbidden(driver: Driver, key: str, event_type: str) -> None:
    """Return once a service refuses events of that type; nothing is stored for that."""
    probe = event(eventType=event_type, actor={"workerId": NOBODY})

    async def is_forbidden() -> bool:
        return (await driver.ingest(key, [probe])).code == "forbidden_event_type"

    await eventually(is_forbidden, f"{event_type} is refused")


async def make_tenant(database_url: str, cell_name: str | None = None, **options: Any) -> Tenant:
    """A new organization; options: monthly_quota, developer_api, requests_per_second (its own),
    key_requests_per_second, expires_us, event_types. A rate of None is the service's default.
    ``cell_name``: the cell whose turn it is, if none is given."""
    async with cell_session(database_url, cell_name) as cell:
        return await _make(cell, database_url, **options)


async def make_tenants(database_url: str) -> list[Tenant]:
    """New organizations without options, in one transaction: each costs half as much as alone.

    Where organizations live in two cells by turns it is one.
    """
    if WHERE is not None:
        return [await make_tenant(database_url)]
    async with cell_session(database_url) as cell, cell.home.transaction():
        return [await _make(cell, database_url) for _ in range(MADE_AT_ONCE)]


async def _make(cell: CellSession, database_url: str, **options: Any) -> Tenant:
    key_options = {"requests_per_second": options.pop("key_requests_per_second", FAST)}
    if "expires_us" in options:
        key_options["expires_us"] = options.pop("expires_us")
    event_types = options.pop("event_types", EVENT_TYPES)
    options = {"requests_per_second": FAST, **options}
    for given in (options, key_options):
        if given["requests_per_second"] is None:
            del given["requests_per_second"]
    name = f"Organization {next(_numbers)} {time.time_ns()}"
    organization = await organizations.create(cell, name, now_us(), **options)
    app = await apps.create(cell, organization, "crm-hub", "CRM Hub", event_types, now_us())
    secret = await key_secrets(cell.home, None)
    api_key, key = await keys.create(cell, app, secret, now_us(), **key_options)
    return Tenant(database_url, organization, app, api_key, key, cell.record)
