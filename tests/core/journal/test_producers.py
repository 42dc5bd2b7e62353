"""Producers: duplicates cost nothing, and their positions prove a commit."""

from __future__ import annotations

import pytest

from core.errors import StreamError
from core.journal import app_producers, producers
from core.journal.pending_events import PendingEvents
from core.journal.producers import Advance, Progress
from core.models import Receipt, StreamPosition
from core.postgres.pipeline import send
from tests.support.direct_writer import DirectWriter
from tests.support.tenant import make_tenant

pytestmark = pytest.mark.anyio


async def test_a_producer_has_reached_a_sequence_in_its_own_epoch_only(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    one, other = (
        producers.ProducerKey(tenant.organization.id, tenant.app.id, name) for name in "ab"
    )
    async with await tenant.connect() as db:

        async def reached(**progress: Progress) -> bool:
            keys = {"one": one, "other": other}
            return await producers.have_reached(db, {keys[n]: p for n, p in progress.items()})

        assert await app_producers.open_stream(db, one, 0) == Progress(0, 1, 0, 0)
        await app_producers.open_stream(db, other, 0)
        assert not await reached()
        assert not await reached(one=Progress(1, 1, 0, 0))
        await send(db, [producers.advance_producers({one: Advance(2, 0, 0)})])
        assert await reached(one=Progress(1, 1, 0, 0))
        assert await reached(one=Progress(2, 1, 0, 0))
        assert not await reached(one=Progress(3, 1, 0, 0))
        # Its successor has sent the same again, or found it committed: nobody knows.
        assert await app_producers.open_stream(db, one, 0) == Progress(2, 2, 0, 0)
        assert not await reached(one=Progress(2, 1, 0, 0))
        # Any other producer of the same transaction proves it as well.
        await send(db, [producers.advance_producers({other: Advance(1, 0, 0)})])
        assert await reached(one=Progress(2, 1, 0, 0), other=Progress(1, 1, 0, 0))


@pytest.mark.usefixtures("each_mode")
async def test_duplicates_of_a_producer_cost_nothing(quota_of_five: DirectWriter) -> None:
    async with quota_of_five.database.connection() as db:
        await app_producers.open_stream(
            db, producers.producer_key(quota_of_five.caller, "p"), quota_of_five.clock.now_us()
        )

    def batch(sequence: int, events: int) -> PendingEvents:
        return quota_of_five.request(events, position=StreamPosition("p", 1, sequence))

    [one] = await quota_of_five.write(batch(1, 2))
    assert isinstance(one, Receipt)
    assert (one.accepted, one.quota_left) == (2, 3)
    again, two, gap = await quota_of_five.write(batch(1, 2), batch(2, 1), batch(4, 1))
    assert isinstance(again, Receipt)
    assert isinstance(two, Receipt)
    assert (again.duplicate, two.accepted, two.quota_left) == (True, 1, 2)
    assert isinstance(gap, StreamError)
    assert await quota_of_five.tenant.used() == 3
