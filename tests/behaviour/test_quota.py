"""The monthly quota: exact under any concurrency, by time of receipt, free for what is refused."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.behaviour.conftest import Connect
from tests.behaviour.examples import broken, within_a_second
from tests.conftest import MakeTenant
from tests.support.driver import Driver, Reply
from tests.support.manual_time import TimedService
from tests.support.tenant import Tenant, event, snapshot

pytestmark = pytest.mark.anyio


async def test_a_batch_is_accepted_up_to_the_last_event_that_fits(
    driver: Driver, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=5)
    assert len((await driver.ingest(tenant.key, [event()] * 2)).accepted) == 2
    stamps = [f"2026-04-19T12:0{index}:00Z" for index in range(6)]
    reply = await driver.ingest(tenant.key, [event(timestamp=stamp) for stamp in stamps])
    assert [stamp for _, stamp in reply.accepted] == stamps[:3]
    assert [(one.index, one.code) for one in reply.rejected] == [
        (index, "quota_exceeded") for index in (3, 4, 5)
    ]
    assert reply.rejected[0].message.startswith("events[3]: the organization's monthly")
    assert len(await tenant.events()) == await tenant.used() == 5
    assert (await driver.ingest(tenant.key, [event()])).code == "quota_exceeded"


@pytest.mark.parametrize(("quota", "size"), [(1, 1), (500, 500), (3, 3)])
async def test_a_batch_of_exactly_the_quota_fits(
    driver: Driver, new_tenant: MakeTenant, quota: int, size: int
) -> None:
    tenant = await new_tenant(monthly_quota=quota)
    assert list((await driver.ingest(tenant.key, [event()] * size)).rejected) == []
    assert (await driver.ingest(tenant.key, [event()])).code == "quota_exceeded"


async def test_rejected_events_take_no_place_from_those_behind_them(
    driver: Driver, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=2)
    codes = ["worker_not_found", "invalid_body", "missing_actor", "forbidden_event_type"]
    events = [broken(codes[0]), event(), *map(broken, codes[1:]), event(), event()]
    reply = await driver.ingest(tenant.key, events)
    assert reply.codes == [*codes, "quota_exceeded"]
    assert [one.index for one in reply.rejected] == [0, 2, 3, 4, 6]
    assert await tenant.used() == 2


async def test_what_writes_nothing_costs_nothing(driver: Driver, new_tenant: MakeTenant) -> None:
    tenant = await new_tenant(monthly_quota=10)
    for code in ("worker_not_found", "invalid_body", "missing_actor", "forbidden_event_type"):
        assert (await driver.ingest(tenant.key, [broken(code)] * 3)).code == code
    assert (await driver.ingest(tenant.key, [event()] * 501)).code == "batch_too_large"
    for _ in range(3):
        await driver.ingest(tenant.key, [event()], "the same")
    await driver.ping(tenant.key)
    assert await tenant.used() == 1


async def test_without_a_quota_everything_fits_and_is_counted(
    driver: Driver, tenant: Tenant
) -> None:
    for _ in range(3):
        assert len((await driver.ingest(tenant.key, [event()] * 400)).accepted) == 400
    assert await tenant.used() == 1_200


async def test_the_quota_is_the_organizations(driver: Driver, new_tenant: MakeTenant) -> None:
    tenant, stranger = await new_tenant(monthly_quota=3), await new_tenant(monthly_quota=3)
    senders = [tenant, await tenant.another_app(), await tenant.another_key()]
    for sender in senders:
        assert (await driver.ingest(sender.key, [event()])).code is None
    for sender in senders:
        assert (await driver.ingest(sender.key, [event()])).code == "quota_exceeded"
        assert (await driver.snapshot(sender.key, snapshot())).code == "quota_exceeded"
    assert (await driver.ingest(stranger.key, [event()])).code is None


@pytest.mark.timed
async def test_a_quota_that_is_changed_counts_what_was_used_before(
    driver: Driver, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=2)

    async def accepted(size: int) -> int:
        return len((await driver.ingest(tenant.key, [event()] * size)).accepted)

    assert await accepted(3) == 2
    await tenant.update(monthly_quota=5)
    await within_a_second(lambda: driver.ingest(tenant.key, [event()]), None)
    assert await accepted(5) == 2
    await tenant.update(monthly_quota=3)  # less than is used
    assert await accepted(1) == 0
    await tenant.update(monthly_quota=7)
    assert await accepted(500) == 2
    await tenant.update(monthly_quota=None)
    assert await accepted(500) == 500
    await tenant.update(monthly_quota=508)
    assert await accepted(500) == 1
    assert await tenant.used() == 508


async def test_no_event_over_and_none_short_under_concurrency(
    replicas: tuple[Driver, Driver], new_tenant: MakeTenant
) -> None:
    quota, writers = 1_000, 64
    tenant = await new_tenant(monthly_quota=quota)
    sizes = random.Random(5)

    async def write_until_refused(client: Driver, own: random.Random) -> list[Reply]:
        replies: list[Reply] = []
        while not replies or replies[-1].code is None:
            size = own.choice([1, 2, 3, 5, 8, 13, 40])
            reply = await client.ingest(tenant.key, [event()] * size)
            accepted = len(reply.accepted)
            if reply.code is None:
                assert [one.index for one in reply.rejected] == list(range(accepted, size))
            assert set(reply.codes) <= {"quota_exceeded"}
            replies.append(reply)
        return replies

    everyone = await asyncio.gather(
        *(
            write_until_refused(replicas[index % 2], random.Random(sizes.random()))
            for index in range(writers)
        )
    )
    assert sum(len(reply.accepted) for replies in everyone for reply in replies) == quota
    assert len(await tenant.events()) == await tenant.used() == quota


async def test_snapshots_and_replays_under_concurrency(
    replicas: tuple[Driver, Driver], new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=30)
    replies = await asyncio.gather(
        *(
            client.snapshot(tenant.key, snapshot(), f"card-{index // 2}")
            if index % 3
            else client.ingest(tenant.key, [event()] * 2, f"batch-{index // 2}")
            for index in range(60)
            for client in replicas
        )
    )
    stored = len(await tenant.events()) + len(await tenant.history())
    assert stored == await tenant.used() == 30
    assert {reply.code for reply in replies} == {None, "quota_exceeded"}


async def test_the_month_is_that_of_receipt_in_utc(
    connect: Connect, timed_service: TimedService
) -> None:
    client, tenant = connect(timed_service.addresses), await timed_service.tenant(monthly_quota=2)
    await timed_service.ensure_partitions()
    month = timed_service.time.next_month_us()
    timed_service.time.advance_to(month - 1)
    late = event(timestamp="2026-04-19T12:05:00Z")
    assert len((await client.ingest(tenant.key, [event(), late, late])).accepted) == 2
    assert (await client.ingest(tenant.key, [late])).code == "quota_exceeded"
    timed_service.time.advance_to(month)
    assert len((await client.ingest(tenant.key, [late, event(), event()])).accepted) == 2
    own = tenant.organization.id
    months = await tenant.rows(
        "SELECT used FROM quota_usage WHERE organization_id = %s ORDER BY month", own
    )
    assert [row["used"] for row in months] == [2, 2]
    partitions = await tenant.rows(
        "SELECT count(*) FROM events WHERE organization_id = %s GROUP BY tableoid", own
    )
    assert [row["count"] for row in partitions] == [2, 2]


async def test_months_go_on_for_years(connect: Connect, timed_service: TimedService) -> None:
    client, tenant = connect(timed_service.addresses), await timed_service.tenant(monthly_quota=1)
    for _ in range(14):
        timed_service.time.advance_to(timed_service.time.next_month_us())
        await timed_service.ensure_partitions()
        codes = [(await client.ingest(tenant.key, [event()])).code for _ in range(2)]
        assert codes == [None, "quota_exceeded"]
    assert await tenant.used() == 14
