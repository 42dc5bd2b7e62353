"""Snapshots of one transaction: all join the history, and the newest of each card is current."""

from __future__ import annotations

import pytest

from core import ids
from core.admin import snapshots as read
from core.journal import snapshots, workers
from core.journal.snapshots import SnapshotRow
from core.models import Actor, WorkerByEmail
from core.postgres.pipeline import send
from core.rules.snapshot import CheckedSnapshot
from core.timestamps import from_datetime
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio

DAY_US = 86_400_000_000


async def test_the_newest_is_the_card_and_on_a_tie_the_later_one(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    organization_id, now = tenant.organization.id, now_us()
    name = WorkerByEmail(organization_id, "alex@example.com")
    async with await tenant.connect() as db:
        made = await workers.provide(db, {name: Actor(email="alex@example.com")}, now)

        def row(metrics: str, occurred_us: int, received_us: int = now) -> SnapshotRow:
            checked = CheckedSnapshot("tickets_open", name, occurred_us, metrics, None)
            whose = (organization_id, tenant.app.id, ids.new(received_us), made[name].id)
            return SnapshotRow(*whose, received_us, checked)

        async def current() -> list[str]:
            return [card.metrics for card in await read.cards(db, organization_id)]

        await send(db, snapshots.store([row('{"n": 1}', now), row('{"n": 0}', now - 1)]))
        assert await current() == ['{"n": 1}']
        await send(db, snapshots.store([row('{"n": 2}', now), row('{"n": 3}', now)]))
        assert await current() == ['{"n": 3}']
        await send(db, snapshots.store([row('{"n": 4}', now - 1)]))
        assert await current() == ['{"n": 3}']
        assert len(await read.history(db, organization_id, None, 10)) == 5
        # Whichever commits first, the later arrival is the card.
        await send(db, snapshots.store([row('{"n": 6}', now, now + 2)]))
        await send(db, snapshots.store([row('{"n": 5}', now, now + 1)]))
        assert await current() == ['{"n": 6}']
        both = [row('{"n": 8}', now, now + 4), row('{"n": 7}', now, now + 3)]
        await send(db, snapshots.store(both))
        assert await current() == ['{"n": 8}']
    assert snapshots.store([]) == []


async def test_a_snapshot_is_stored_with_the_texts_as_they_are(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    name = WorkerByEmail(tenant.organization.id, "alex@example.com")
    async with await tenant.connect() as db:
        now = now_us()
        made = await workers.provide(db, {name: Actor(email="alex@example.com")}, now)
        checked = CheckedSnapshot("tickets_open", name, now, '{"n":1.50}', '{"b":"\\u00e9","a":0}')
        whose = tenant.organization.id, tenant.app.id, ids.new(now), made[name].id
        await send(db, snapshots.store([SnapshotRow(*whose, now, checked)]))
    [stored] = await tenant.rows(
        "SELECT metrics::text AS metrics, metadata::text AS metadata FROM snapshot_history"
    )
    assert stored == {"metrics": checked.metrics, "metadata": checked.metadata}


async def test_a_timestamp_of_the_future_counts_as_the_time_of_receipt(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    organization_id, now = tenant.organization.id, now_us()
    name = WorkerByEmail(organization_id, "alex@example.com")
    async with await tenant.connect() as db:
        made = await workers.provide(db, {name: Actor(email="alex@example.com")}, now)

        async def store(*moments: tuple[int, int]) -> None:
            await send(
                db,
                snapshots.store(
                    [
                        SnapshotRow(
                            *(organization_id, tenant.app.id, ids.new(received), made[name].id),
                            received,
                            CheckedSnapshot("load", name, occurred, f'{{"n": {occurred}}}', None),
                        )
                        for occurred, received in moments
                    ]
                ),
            )

        async def current() -> int:
            (card,) = await read.cards(db, organization_id)
            return from_datetime(card.occurred_at) - now

        await store((now + DAY_US, now))
        assert await current() == DAY_US  # shown as it was sent
        await store((now - 1, now + 1))
        assert await current() == DAY_US
        await store((now + 1, now + 1))
        assert await current() == 1
        await store((now + DAY_US, now + 2), (now + 3, now + 3))
        assert await current() == 3
        await store((now + 2 * DAY_US, now + 2))
        assert await current() == 3
