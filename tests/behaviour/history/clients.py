"""Clients of requests: each of many keys, over every API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.behaviour.history.record import Answer, Body
from tests.behaviour.history.world import World
from tests.support.driver import Driver

BURST = 5


async def send(world: World, driver: Driver, body: Body) -> None:
    """Send a body as a request of its own."""
    operation = world.begin(body, driver.name)
    items = [item.json for item in body.items]
    key = body.key.tenant.key
    if body.endpoint == "events":
        reply = await driver.ingest(key, items, body.idempotency_key)
    else:
        reply = await driver.snapshot(key, items[0], body.idempotency_key)
    await world.end(operation, Answer.of(reply, body.endpoint))


async def requests(world: World, name: str, drivers: Sequence[Driver]) -> None:
    """A client of many keys; now and then it sends the same several times at once."""
    dice = world.random(name)
    while world.open:
        if dice.random() < 0.05:
            bodies = world.meeting(dice, dice.choice(world.history.organizations))
        else:
            body = world.choose(dice, dice.choice(world.history.keys))
            bodies = [body] * (BURST if body.idempotency_key and dice.random() < 0.1 else 1)
        async with asyncio.TaskGroup() as group:
            for body in bodies:
                group.create_task(send(world, dice.choice(drivers), body))
