"""The whitelist of an app."""

from __future__ import annotations

import asyncio

import pytest

from core import ids
from core.admin import whitelist
from core.admin.cell_sessions import at_home
from core.admin.errors import InvalidValueError, NotFoundError
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio


async def test_types_are_added_and_taken_off(database_url: str) -> None:
    tenant = await make_tenant(database_url, event_types=["b.b"])
    organization, app = tenant.organization.id, tenant.app.id
    async with await tenant.connect() as db:
        assert await whitelist.allow(at_home(db), organization, app, ["c.c", "B.B", "b.b"]) == [
            *("B.B", "b.b", "c.c")
        ]
        assert await whitelist.deny(at_home(db), organization, app, ["b.b", "B.B"]) == ["c.c"]


async def test_a_misspelled_type_changes_nothing(database_url: str) -> None:
    tenant = await make_tenant(database_url, event_types=["deal.won"])
    organization, app = tenant.organization.id, tenant.app.id
    async with await tenant.connect() as db:
        with pytest.raises(NotFoundError, match=r"nothing was changed: deal\.one"):
            await whitelist.deny(at_home(db), organization, app, ["deal.won", "deal.one"])
        assert await whitelist.allow(at_home(db), organization, app, ["deal.won"]) == ["deal.won"]
        with pytest.raises(InvalidValueError, match="at least one"):
            await whitelist.deny(at_home(db), organization, app, [])
        with pytest.raises(InvalidValueError, match=r"the event type '\?'"):
            await whitelist.allow(at_home(db), organization, app, ["?"])


async def test_an_unknown_app_is_not_found(database_url: str) -> None:
    tenant, unknown = await make_tenant(database_url), ids.new(now_us())
    async with await tenant.connect() as db:
        for change in (whitelist.allow, whitelist.deny):
            with pytest.raises(NotFoundError, match="there is no app"):
                await change(at_home(db), tenant.organization.id, unknown, ["deal.won"])


async def test_changes_at_the_same_time_are_all_made(database_url: str) -> None:
    tenant = await make_tenant(database_url, event_types=["deal.won"])
    added = [f"type.{number}" for number in range(8)]
    await asyncio.gather(*(tenant.allow(event_type) for event_type in added))
    async with await tenant.connect() as db:
        found = await whitelist.allow(
            at_home(db), tenant.organization.id, tenant.app.id, ["deal.won"]
        )
    assert found == sorted(["deal.won", *added])
