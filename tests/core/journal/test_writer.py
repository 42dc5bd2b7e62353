"""Groups whose requests differ in what becomes of them, written together on a real PostgreSQL."""

from __future__ import annotations

import pytest

import core.journal.writer
from core.errors import IngestError, StreamError
from core.journal.pending_events import PendingEvents
from core.journal.producers import open_stream, producer_key
from core.models import Actor, Receipt, StreamPosition
from tests.support.journal_writer import Written

pytestmark = pytest.mark.anyio

NOBODY = Actor(worker_id="wrk_" + "0" * 26)


@pytest.fixture(autouse=True, params=["at once", "step by step"])
async def approach(
    request: pytest.FixtureRequest, five: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every group is tried at once first, or none is, after one that could not be written.

    Who the events are about is known: otherwise no group would be.
    """
    await five.write(five.request(1))
    await five.tenant.rows("DELETE FROM events")
    await five.tenant.rows("DELETE FROM quota_usage")
    careful = request.param == "step by step"
    monkeypatch.setattr(core.journal.writer, "STEPWISE_SECONDS", 3_600 if careful else 0)
    [refused] = await five.write(five.request(1, position=StreamPosition("nobody", 1, 1)))
    assert isinstance(refused, StreamError)


def accepted(outcome: object) -> int:
    """How many events an outcome says are stored."""
    assert isinstance(outcome, Receipt), outcome
    return outcome.accepted


async def test_a_replay_takes_nothing_from_those_it_is_written_with(five: Written) -> None:
    await five.write(five.request(3, key="first"))
    replay, fresh = await five.write(five.request(3, key="first"), five.request(2))
    assert isinstance(replay, Receipt)
    assert replay.replayed
    assert accepted(fresh) == 2
    assert await five.tenant.used() == 5
    assert len(await five.tenant.events()) == 5


async def test_only_what_is_stored_is_charged(five: Written) -> None:
    await five.write(five.request(3, key="first"))
    _, fresh = await five.write(five.request(3, key="first"), five.request(1))
    assert isinstance(fresh, Receipt)
    assert fresh.quota_left == 1
    assert await five.tenant.used() == 4
    refused, fresh = await five.write(five.request(3, actor=NOBODY), five.request(1))
    assert isinstance(refused, IngestError)
    assert refused.code == "worker_not_found"
    assert accepted(fresh) == 1
    assert await five.tenant.used() == 5


async def test_a_quota_that_does_not_suffice_is_given_in_order(five: Written) -> None:
    first, second, third = await five.write(five.request(3), five.request(3), five.request(1))
    assert isinstance(second, Receipt)
    assert (accepted(first), accepted(second), len(second.rejected)) == (3, 2, 1)
    assert isinstance(third, IngestError)
    assert third.code == "quota_exceeded"
    assert await five.tenant.used() == 5


async def test_duplicates_of_a_producer_cost_nothing(five: Written) -> None:
    async with five.database.connection() as db:
        await open_stream(db, producer_key(five.caller, "p"), five.clock.now_us())

    def batch(sequence: int, events: int) -> PendingEvents:
        return five.request(events, position=StreamPosition("p", 1, sequence))

    [one] = await five.write(batch(1, 2))
    assert isinstance(one, Receipt)
    assert (one.accepted, one.quota_left) == (2, 3)
    again, two, gap = await five.write(batch(1, 2), batch(2, 1), batch(4, 1))
    assert isinstance(again, Receipt)
    assert isinstance(two, Receipt)
    assert (again.duplicate, two.accepted, two.quota_left) == (True, 1, 2)
    assert isinstance(gap, StreamError)
    assert await five.tenant.used() == 3


async def test_a_key_of_which_nothing_is_written_is_free_again(five: Written) -> None:
    for _ in range(2):
        refused, fresh = await five.write(five.request(1, key="a", actor=NOBODY), five.request(1))
        assert isinstance(refused, IngestError)
        assert accepted(fresh) == 1
    [first] = await five.write(five.request(1, key="a"))
    assert isinstance(first, Receipt)
    assert (first.accepted, first.replayed) == (1, False)
    assert await five.tenant.used() == 3
