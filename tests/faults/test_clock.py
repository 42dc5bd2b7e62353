"""A clock that is wrong, or stepped: months are made when they are needed, and stay exact."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from core.clock import Clock
from core.postgres.partitions import name_at
from core.timestamps import from_datetime
from tests.faults.conftest import Client
from tests.support.database import connect
from tests.support.driver import Driver
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.running_service import RunningService
from tests.support.tenant import event, make_tenant, now_us
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

YEAR_US = 366 * 86_400 * 1_000_000
SECOND_US = 1_000_000
QUOTA = 100
MAX_TRIES = 5
# Two seconds are promised; a busy machine may add to them.
HEALED_SECONDS = 2.0 + 1.5


@dataclass
class SteppedClock:
    """The real time, and what it is wrong by."""

    wrong_by_us: int = 0
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(lambda: now_us() + self.wrong_by_us)


@pytest.fixture
def stepped() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def client(database_url: str, stepped: SteppedClock) -> AsyncIterator[Client]:
    """A client of a service that goes by the stepped clock."""
    tenant = await make_tenant(database_url)
    with RunningService(database_url, stepped.clock) as service:
        http = HttpDriver(service.addresses.http)
        yield Client(tenant, http)
        await http.close()


async def test_an_event_is_stored_in_a_month_that_nobody_has_made(
    client: Client, stepped: SteppedClock
) -> None:
    assert (await client.post()).status_code == 202
    for wrong_by_us in (2 * YEAR_US, -2 * YEAR_US):
        stepped.wrong_by_us = wrong_by_us
        assert (await client.post()).status_code == 202
    assert await client.stored() == 6


async def test_a_month_that_is_missing_is_made_without_an_event(
    client: Client, database_url: str, stepped: SteppedClock
) -> None:
    assert await client.is_ready()
    stepped.wrong_by_us = 2 * YEAR_US
    name = name_at(now_us() + stepped.wrong_by_us)

    async def is_made() -> bool:  # in the home cell, at which readiness looks
        async with await connect(database_url) as db:
            row = await (await db.execute("SELECT to_regclass(%s)", (name,))).fetchone()
        return row is not None and row[0] is not None

    begun = time.monotonic()
    await eventually(is_made, "the month is made", seconds=HEALED_SECONDS)
    left = begun + HEALED_SECONDS - time.monotonic()
    await eventually(client.is_ready, "it is ready", seconds=left)


async def test_a_clock_that_is_stepped_over_the_end_of_a_month_keeps_each_month_exact(
    database_url: str, stepped: SteppedClock
) -> None:
    tenant = await make_tenant(database_url, monthly_quota=QUOTA)
    end_us = from_datetime(datetime(2035, 1, 1, tzinfo=UTC))  # of a month that nobody has made
    with RunningService(database_url, stepped.clock) as service:
        drivers: list[Driver] = [
            HttpDriver(service.addresses.http),
            GrpcDriver(service.addresses.grpc),
        ]
        sent = accepted = 0

        async def send(number: int) -> None:
            nonlocal sent, accepted
            driver = drivers[number % 2]
            for batch in range(10):
                # Each request may find itself on either side of the month's end.
                side = -1 if (number + batch) % 3 else 1
                stepped.wrong_by_us = end_us + side * SECOND_US - now_us()
                key = f"{number}-{batch}"
                events = [event(f"w-{n}") for n in range(3)]
                reply = await driver.ingest(tenant.key, events, key)
                tries = 1
                while reply.code == "internal_error" and tries < MAX_TRIES:
                    reply = await driver.ingest(tenant.key, events, key)
                    tries += 1
                assert reply.code in (None, "quota_exceeded"), reply
                assert set(reply.codes) <= {"quota_exceeded"}
                sent += 3
                accepted += len(reply.accepted)

        await asyncio.gather(*map(send, range(16)))
        for driver in drivers:
            await driver.close()
    stored = await tenant.rows(
        "SELECT tableoid::regclass::text AS name, id FROM events WHERE organization_id = %s",
        tenant.organization.id,
    )
    # A ULID begins with the milliseconds of its time.
    assert all(row["name"] == name_at((row["id"].int >> 80) * 1_000) for row in stored)
    used = await tenant.rows(
        "SELECT month, used FROM quota_usage WHERE organization_id = %s", tenant.organization.id
    )
    months = Counter(row["name"] for row in stored)
    assert Counter({f"events_{row['month']:%Y_%m}": row["used"] for row in used}) == months
    assert set(months) == {"events_2034_12", "events_2035_01"}
    assert all(count == QUOTA for count in months.values()), "each month is filled, and no more"
    assert accepted == len(stored) < sent
