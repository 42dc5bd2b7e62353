"""Reading and following the timeline, where commits come late and out of order."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from msgspec import structs

from core import ids
from core.admin import timeline, workers
from core.admin.cell_sessions import at_home
from core.admin.timeline import Follower, Selection
from core.postgres.sessions import Connection
from core.timestamps import to_datetime
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio

SECOND_US = 1_000_000

INSERT = """
INSERT INTO events (organization_id, app_id, id, worker_id, event_type, category, occurred_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


class Writer:
    """Stores events as received at a moment of the test's choice."""

    def __init__(self, db: Connection, selection: Selection) -> None:
        assert selection.app_id is not None
        assert selection.worker_id is not None
        self._db = db
        self._whose = (selection.organization_id, selection.app_id)
        self._worker_id = selection.worker_id

    async def store(
        self, received_us: int, event_type: str = "ticket.resolved", category: str = "other"
    ) -> UUID:
        event_id = ids.new(received_us)
        moment = to_datetime(received_us)
        kind = (event_type, category)
        await self._db.execute(INSERT, (*self._whose, event_id, self._worker_id, *kind, moment))
        return event_id


async def told(follower: Follower, db: Connection) -> list[UUID]:
    return [event.id for event in await follower.news(db)]


async def test_every_event_is_told_once_however_late_it_commits(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    base = now_us() - 60 * SECOND_US
    async with await tenant.connect() as reading, await tenant.connect() as writing:
        worker = await workers.create(at_home(writing), tenant.organization.id, "Alex", None, base)
        selection = Selection(tenant.organization.id, tenant.app.id, worker.id)
        writer = Writer(writing, selection)
        follower = Follower(selection)
        assert await follower.start(reading, 10) == []
        assert await told(follower, reading) == []

        first = await writer.store(base)
        assert await told(follower, reading) == [first]
        # Two received in one order and committed in the other.
        async with await tenant.connect() as slow, slow.transaction():
            early = await Writer(slow, selection).store(base + SECOND_US)
            late = await writer.store(base + 10 * SECOND_US)
            assert await told(follower, reading) == [late]
        assert await told(follower, reading) == [early]
        assert await told(follower, reading) == []

        # Beyond what any commit can take, the past is not searched again.
        await writer.store(base - 600 * SECOND_US)
        assert await told(follower, reading) == []
        in_order = [await writer.store(base + second * SECOND_US) for second in (20, 21, 22)]
        assert await told(follower, reading) == in_order


async def test_a_wrong_clock_and_a_commit_half_a_minute_late_leave_nothing_out(
    database_url: str,
) -> None:
    tenant = await make_tenant(database_url)
    now = now_us()
    async with await tenant.connect() as db, await tenant.connect() as slow:
        worker = await workers.create(at_home(db), tenant.organization.id, "Alex", None, now)
        selection = Selection(tenant.organization.id, tenant.app.id, worker.id)
        writer = Writer(db, selection)
        ahead = await writer.store(now + 86_400 * SECOND_US)
        started = Follower(selection)
        assert [event.id for event in await started.start(db, 10)] == [ahead]
        followers = [started, Follower(selection)]
        assert [await told(follower, db) for follower in followers] == [[], [ahead]]

        async with slow.transaction():
            late = await Writer(slow, selection).store(now - 30 * SECOND_US)
            for second in range(3):
                stored = await writer.store(now + second * SECOND_US)
                ahead = await writer.store(now + (86_401 + second) * SECOND_US)
                for follower in followers:
                    assert await told(follower, db) == [stored, ahead]
        for follower in followers:
            assert await told(follower, db) == [late]
            assert await told(follower, db) == []


async def test_a_start_tells_the_latest_and_takes_the_rest_as_told(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    other = await tenant.another_app()
    base = now_us() - 60 * SECOND_US
    async with await tenant.connect() as db:
        worker = await workers.create(at_home(db), tenant.organization.id, "Alex", None, base)
        selection = Selection(tenant.organization.id, tenant.app.id, worker.id)
        mine = Writer(db, selection)
        others = Writer(db, Selection(tenant.organization.id, other.app.id, worker.id))
        stored = [await mine.store(base + step) for step in range(0, 5_000, 1_000)]
        await others.store(base)

        assert [event.id for event in await timeline.newest(db, selection, 2)] == stored[:2:-1]
        for limit in (0, 2):
            follower = Follower(selection)
            started = [event.id for event in await follower.start(db, limit)]
            assert started == stored[len(stored) - limit :]
            assert await told(follower, db) == []
            await others.store(base + (limit + 1) * SECOND_US)
            assert await told(follower, db) == []
        assert await told(Follower(selection), db) == stored  # without a start: from the beginning
        everything = Selection(tenant.organization.id)
        assert len(await timeline.newest(db, everything, 100)) == 8


async def test_more_than_one_answer_holds_is_told_in_several(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MAX_EVENTS_A_POLL", 3)
    tenant = await make_tenant(database_url)
    base = now_us() - 600 * SECOND_US
    async with await tenant.connect() as db:
        worker = await workers.create(at_home(db), tenant.organization.id, "Alex", None, base)
        selection = Selection(tenant.organization.id, tenant.app.id, worker.id)
        follower = Follower(selection)
        writer = Writer(db, selection)
        stored = [await writer.store(base + step * 30 * SECOND_US) for step in range(8)]
        answers = [await told(follower, db) for _ in range(4)]
        assert answers == [stored[:3], stored[3:6], stored[6:], []]


async def test_events_are_wanted_by_type_category_and_day_of_receipt(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    now = now_us()
    async with await tenant.connect() as db:
        worker = await workers.create(at_home(db), tenant.organization.id, "Alex", None, now)
        everything = Selection(tenant.organization.id, tenant.app.id, worker.id)
        writer = Writer(db, everything)
        midnight = now - now % timeline.DAY_US
        before = await writer.store(midnight - 1_000)
        first = await writer.store(midnight, "deal.won", "code")
        second = await writer.store(midnight + 1_000, "deal.won")
        day = to_datetime(midnight).date()

        async def found(before: UUID | None = None, **wanted: object) -> list[UUID]:
            selection = structs.replace(everything, **wanted)
            return [event.id for event in await timeline.newest(db, selection, 10, before)]

        assert await found() == [second, first, before]
        assert await found(second) == [first, before]
        assert await found(event_type="deal.won") == [second, first]
        assert await found(event_type="deal.won", category="code") == [first]
        assert await found(day=day) == [second, first]
        assert await found(second, day=day) == [first]
        assert await found(day=day - timedelta(days=1)) == [before]
        assert await found(day=day.replace(year=1)) == []
        follower = Follower(structs.replace(everything, category="code", day=day))
        assert await told(follower, db) == [first]
        assert await told(follower, db) == []


async def test_a_page_is_told_the_latest_events_however_many_come(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    base = now_us() - 60 * SECOND_US
    async with await tenant.connect() as reading, await tenant.connect() as writing:
        worker = await workers.create(at_home(writing), tenant.organization.id, "Alex", None, base)
        selection = Selection(tenant.organization.id, tenant.app.id, worker.id)
        writer = Writer(writing, selection)
        latest = timeline.Latest(selection, 3)

        async def news() -> list[UUID]:
            return [event.id for event in await latest.news(reading)]

        assert await news() == []
        stored = [await writer.store(base + number * SECOND_US) for number in range(5)]
        assert await news() == stored[-3:]
        assert await news() == []
        # One that was received before others, and is committed after them.
        late = await writer.store(base + 4 * SECOND_US - 1_000)
        assert await news() == [late]
        # What came before is not told when it is among the latest again.
        await writing.execute("DELETE FROM events WHERE id = ANY (%s)", ([late, stored[-1]],))
        assert await news() == [stored[1]]
        await writing.execute("DELETE FROM events WHERE id = %s", (stored[2],))
        assert await news() == [stored[0]]
        assert await news() == []
