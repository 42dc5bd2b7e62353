"""Operators who change keys, plans, whitelists and quotas while clients are at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from tests.behaviour.history.record import AppRecord, OrganizationRecord, Setting
from tests.behaviour.history.world import SOMETIMES, World
from tests.support.tenant import Tenant


async def _change(setting: Setting[Any], value: Any, change: Callable[[], Awaitable[Any]]) -> None:
    """Change something; clients may meet the change from the moment it is asked for."""
    began = time.monotonic()
    await change()
    setting.change(began, time.monotonic(), value)


async def revoke_keys(world: World) -> None:
    """Revoke half of the keys, one by one, from a quarter of the time to half of it."""
    await asyncio.sleep(world.seconds / 4)
    for key in world.doomed:
        await _change(key.revoked, True, key.tenant.revoke)
        await asyncio.sleep(world.seconds / 4 / len(world.doomed))


async def change_plan(world: World, organization: OrganizationRecord) -> None:
    """Turn the developer API off and on again."""
    for share, value in ((0.15, False), (0.6, True)):
        await asyncio.sleep(world.seconds * share)
        change = partial(organization.tenant.update, developer_api=value)
        await _change(organization.plan, value, change)


async def change_whitelist(world: World, app: AppRecord, tenant: Tenant) -> None:
    """Take an event type off the whitelist, and put it back."""
    await asyncio.sleep(world.seconds / 8)
    await _change(app.whitelisted, False, partial(tenant.deny, SOMETIMES))
    await asyncio.sleep(world.seconds / 2)
    await _change(app.whitelisted, True, partial(tenant.allow, SOMETIMES))


async def move_quota(world: World, organization: OrganizationRecord) -> None:
    """Lower and raise a quota, to below and above what is used."""
    dice = world.random("quota")
    while world.open:
        await asyncio.sleep(world.seconds / 10)
        quota = max(0, await organization.tenant.used() + dice.randint(-20, 80))
        change = partial(organization.tenant.update, monthly_quota=quota)
        await _change(organization.quota, quota, change)
