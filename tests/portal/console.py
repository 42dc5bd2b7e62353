"""A console with data to show, and browsers that are signed in to it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from playwright.async_api import Browser

from core import ids
from core.access.key_secrets import key_secrets
from core.admin import apps, operators, organizations, sign_ins
from core.admin.cell_sessions import at_home
from core.admin.operators import Operator
from core.clock import Clock
from core.postgres.sessions import connect
from http_api.paths import CONSOLE_PATH, SIGN_IN_PATH
from tests.portal import northwind
from tests.support.browser import Tab, tab
from tests.support.manual_time import ManualTime
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, make_tenant, now_us

OPERATOR = "ann@example.com"


class FilledConsole(NamedTuple):
    """A service whose console has something on every page, and an operator of it.

    ``empty``: an organization without anything.
    """

    addresses: Addresses
    tenant: Tenant
    empty: Tenant
    operator: Operator
    token: str
    time: ManualTime

    def path(self, tab_path: str = "") -> str:
        """The path of a tab of the organization that has data."""
        return f"{CONSOLE_PATH}/organizations/{self.tenant.organization_id}{tab_path}"

    async def link(self) -> str:
        """A path that signs in once."""
        async with await connect(self.addresses.database_url) as db:
            secret = await sign_ins.make_link(db, self.operator, self.time.now_us)
        return f"{SIGN_IN_PATH}?link={secret}"

    async def pages(self) -> dict[str, str]:
        """A path for each kind of page, by a name of it."""
        rows = await self.tenant.rows(
            "SELECT worker_id AS id FROM snapshot_cards WHERE organization_id = %s LIMIT 1",
            self.tenant.organization.id,
        )
        worker = ids.text(ids.WORKER, rows[0]["id"])
        empty = f"{CONSOLE_PATH}/organizations/{self.empty.organization_id}"
        return {
            "organizations": f"{CONSOLE_PATH}/organizations",
            "timeline": self.path(),
            "nothing filtered": self.path("?type=no.such.type"),
            "wrong filter": self.path("?worker=nobody"),
            "workers": self.path("/workers"),
            "worker": self.path(f"/workers/{worker}"),
            "developer": self.path("/developer?done=app"),
            "usage": self.path("/usage"),
            "rejections": self.path("/rejections"),
            "audit": self.path("/audit"),
            "all audit": f"{CONSOLE_PATH}/audit",
            **{f"empty {one}": f"{empty}/{one}" for one in ("workers", "usage", "rejections")},
            "empty timeline": empty,
            "error": f"{CONSOLE_PATH}/nothing",
        }


@contextlib.asynccontextmanager
async def filled_console(database_url: str) -> AsyncIterator[FilledConsole]:
    """The console of a service on a migrated database, whose time has passed for the data."""
    time = ManualTime()
    time.now_us -= round(northwind.SECONDS * 1_000_000)
    tenant = await make_tenant(
        database_url,
        monthly_quota=5_000,
        event_types=list(northwind.CATEGORIES),
        requests_per_second=None,
        key_requests_per_second=300,
    )
    async with tenant.in_cell() as cell:
        await organizations.update(cell, tenant.organization.id, name=northwind.NAME)
        await apps.create(cell, tenant.organization, "web-shop", "Web Shop", ["deal.won"], now_us())
    old = await tenant.another_key(requests_per_second=60)
    await old.revoke()
    empty = await make_tenant(database_url)
    async with await connect(database_url) as db:
        secrets = await key_secrets(db)
        home = at_home(db)
        operator, token = await operators.create(home, OPERATOR, "write", secrets, time.now_us)
    clock = Clock(lambda: time.now_us)  # latencies are real
    with RunningService(database_url, clock, keep_rejected_items=True) as service:
        await northwind.fill(service.addresses.http, tenant, time)
        yield FilledConsole(service.addresses, tenant, empty, operator, token, time)


class SignedIn:
    """A tab of a browser that is signed in."""

    def __init__(self, opened: Tab) -> None:
        self.page = opened.page
        self.opened = opened

    async def go(self, path: str) -> None:
        """Open a page. It is not waited for silence: a timeline goes on asking."""
        await self.page.goto(f"{self.opened.base_url}{path}", wait_until="load")


@contextlib.asynccontextmanager
async def signed_in(
    browser: Browser, filled: FilledConsole, device: str = "desktop", **options: Any
) -> AsyncIterator[SignedIn]:
    """A tab that has signed in by a link."""
    async with tab(browser, filled.addresses.http, device, **options) as opened:
        await opened.page.goto(f"{filled.addresses.http}{await filled.link()}")
        if options.get("java_script_enabled") is False:
            await opened.page.get_by_role("button", name="Sign in").click()
        await opened.page.wait_for_url("**/console/organizations")
        yield SignedIn(opened)
