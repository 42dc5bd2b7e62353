"""Operators who change keys, plans, whitelists and quotas while clients are at it."""

from __future__ import annotations

import asyncio

from tests.behaviour.history.record import AppRecord, OrganizationRecord
from tests.behaviour.history.world import SOMETIMES, World
from tests.support.tenant import Tenant


async def revoke_keys(world: World) -> None:
    """Revoke half of the keys, one by one, from a quarter of the time to half of it."""
    await asyncio.sleep(world.seconds / 4)
    for key in world.doomed:
        await key.revoked.change(True, key.tenant.revoke())
        await asyncio.sleep(world.seconds / 4 / len(world.doomed))


async def change_plan(world: World, organization: OrganizationRecord) -> None:
    """Turn the developer API off and on again."""
    for share, value in ((0.15, False), (0.6, True)):
        await asyncio.sleep(world.seconds * share)
        change = organization.tenant.update(developer_api=value)
        await organization.plan.change(value, change)


async def change_whitelist(world: World, app: AppRecord, tenant: Tenant) -> None:
    """Take an event type off the whitelist, and put it back."""
    await asyncio.sleep(world.seconds / 8)
    await app.whitelisted.change(False, tenant.deny(SOMETIMES))
    await asyncio.sleep(world.seconds / 2)
    await app.whitelisted.change(True, tenant.allow(SOMETIMES))


async def move_quota(world: World, organization: OrganizationRecord) -> None:
    """Lower and raise a quota, to below and above what is used."""
    dice = world.random("quota")
    while world.open:
        await asyncio.sleep(world.seconds / 10)
        quota = max(0, await organization.tenant.used() + dice.randint(-20, 80))
        change = organization.tenant.update(monthly_quota=quota)
        await organization.quota.change(quota, change)
