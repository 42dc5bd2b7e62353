"""Many clients of every kind at once, against a simple model of what may come of it.

``WEPEOPLE_HISTORY_SEED`` repeats what clients choose (their meetings are the machine's);
``WEPEOPLE_HISTORY_ROUNDS`` and ``WEPEOPLE_HISTORY_SECONDS`` make the history longer.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import grpc
import pytest

from tests.behaviour.history import clients, model, operators, stored, streams
from tests.behaviour.history.world import World
from tests.conftest import MakeTenant
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.running_service import Addresses

pytestmark = pytest.mark.anyio

ROUNDS = int(os.environ.get("WEPEOPLE_HISTORY_ROUNDS", "1"))
SECONDS = float(os.environ.get("WEPEOPLE_HISTORY_SECONDS", "6"))
SEED = os.environ.get("WEPEOPLE_HISTORY_SEED")

# On a busy machine little happens in the time: so many rounds more until there was everything.
MORE_ROUNDS = 4
MAX_SHOWN = 20
REQUESTERS = 20
PLAIN_STREAMS = 4
LATE_CALLS_SECONDS = 0.5
MUST_HAPPEN = (
    *("http", "grpc", "stream", "accepted", "lost", "replayed", "other body", "duplicate"),
    *("quota", "key_revoked", "plan_disabled", "forbidden_event_type", "worker_not_found"),
)


@pytest.fixture
async def drivers(server: Addresses, replica: Addresses) -> AsyncIterator[Sequence[Driver]]:
    """Clients of both APIs of both replicas."""
    made: list[Driver] = []
    for addresses in (server, replica):
        made += [HttpDriver(addresses.http), GrpcDriver(addresses.grpc)]
    yield made
    for driver in made:
        await driver.close()


@pytest.fixture
async def channels(
    server: Addresses, replica: Addresses
) -> AsyncIterator[Sequence[grpc.aio.Channel]]:
    """Connections for streams to both replicas."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(grpc.aio.insecure_channel(addresses.grpc))
            for addresses in (server, replica)
        ]
    # The library tells of cancelled calls when it pleases, even to a loop that is closed by then.
    await asyncio.sleep(LATE_CALLS_SECONDS)


@pytest.mark.timeout(120 + (ROUNDS + MORE_ROUNDS) * (10 + 2 * SECONDS))
async def test_a_history_of_many_clients_agrees_with_the_model(
    drivers: Sequence[Driver],
    channels: Sequence[grpc.aio.Channel],
    new_tenant: MakeTenant,
) -> None:
    first = int(SEED) if SEED else random.SystemRandom().randrange(10**9)
    counts: Counter[str] = Counter()
    for seed in range(first, first + ROUNDS + MORE_ROUNDS):
        if seed >= first + ROUNDS and all(counts[name] for name in MUST_HAPPEN):
            break
        async with AsyncExitStack() as stack:
            world = World(seed, SECONDS, stack)
            await world.make_organizations(new_tenant)
            await act(world, drivers, channels)
        found = list(world.history.violations)
        for organization in world.history.organizations:
            rows = await stored.read(organization)
            found += model.violations(world.history, organization, rows)
        happened = tally(world)
        counts += happened
        print(f"seed {seed}: {happened}")
        shown = "\n".join(found[:MAX_SHOWN])
        assert not found, f"WEPEOPLE_HISTORY_SEED={seed}: {len(found)} violations\n{shown}"
    # It had something of everything that is checked.
    assert all(counts[name] for name in MUST_HAPPEN), (first, counts)


async def act(
    world: World, drivers: Sequence[Driver], channels: Sequence[grpc.aio.Channel]
) -> None:
    """Let all clients and operators do what they do until the time is over."""
    history = world.history
    async with asyncio.TaskGroup() as group:
        start = group.create_task
        for number in range(REQUESTERS):
            start(clients.requests(world, f"client {number}", drivers))
        for number in range(PLAIN_STREAMS):
            start(streams.plain_stream(world, f"stream {number}", channels))
        for number, key in enumerate(history.keys[::3]):
            start(streams.producer(world, f"producer {number}", key, channels))
        start(operators.revoke_keys(world))
        start(operators.change_plan(world, history.organizations[0]))
        start(operators.move_quota(world, history.organizations[-1]))
        for app, tenant in {key.app: key.tenant for key in history.keys}.items():
            start(operators.change_whitelist(world, app, tenant))


def tally(world: World) -> Counter[str]:
    """Count what the history had in it."""
    counts: Counter[str] = Counter()
    for operation in world.history.operations:
        answer = operation.answer
        counts[operation.protocol] += 1
        if answer is None:
            counts["lost"] += 1
            continue
        counts[answer.code or "accepted"] += 1
        counts["replayed"] += answer.replayed
        counts["duplicate"] += answer.duplicate
        counts["other body"] += "different body" in answer.message
        counts["quota"] += any(code == "quota_exceeded" for _, code, _ in answer.rejected)
    return counts
