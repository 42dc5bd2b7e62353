"""Which requests wait for which others while they are written."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

import core.journal.journal
import core.postgres.sessions
from core.counters import Counters
from core.errors import IngestError
from core.journal.app_producers import open_stream
from core.journal.journal import Journal
from core.journal.judging import MIN_SLICE_EVENTS
from core.journal.pending import PendingRequest
from core.journal.pending_events import PendingEvents
from core.journal.producers import producer_key
from core.journal.queue import Queue
from core.journal.workers import WorkerCache
from core.models import Actor, Event, EventBatch, StreamPosition
from tests.support.direct_writer import DirectWriter
from tests.support.tenant import until_somebody_waits_for
from tests.support.waiting import WAIT_SECONDS, eventually

pytestmark = pytest.mark.anyio

WAITING = """
SELECT pid FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request leaves its transaction for a lock wait while a test holds a lock."""
    monkeypatch.setattr(core.postgres.sessions, "JOURNAL_LOCK_MILLISECONDS", 20_000)


@contextlib.asynccontextmanager
async def running(writer: DirectWriter) -> AsyncIterator[Journal]:
    """A journal that commits until the block ends."""
    journal = Journal(writer.database, writer.clock, Counters(), WorkerCache())
    run = asyncio.create_task(journal.run())
    try:
        yield journal
    finally:
        journal.close()
        await run


async def test_batches_are_committed_in_the_order_in_which_they_are_enqueued(
    quota_of_five: DirectWriter,
) -> None:
    journal = Journal(quota_of_five.database, quota_of_five.clock, Counters(), WorkerCache())
    requests = [quota_of_five.request(1, actor=Actor(external_id=name)) for name in "abc"]
    answers = [journal.enqueue(request) for request in requests]  # no turn of the loop between
    assert journal._single.pop_transaction(lambda _: False) == requests
    for answer in answers:
        answer.cancel()


async def test_a_single_request_does_not_wait_for_the_transaction_of_a_stream(
    quota_of_five: DirectWriter,
) -> None:
    async with quota_of_five.database.connection() as db:
        await open_stream(db, producer_key(quota_of_five.caller, "p"), quota_of_five.clock.now_us())
    async with running(quota_of_five) as journal, await quota_of_five.tenant.connect() as db:
        await db.execute("BEGIN")
        await db.execute("SELECT FROM producers FOR UPDATE")
        batch = quota_of_five.request(3, position=StreamPosition("p", 1, 1))
        streamed = journal.enqueue(batch)
        await until_somebody_waits_for(db, quota_of_five.tenant)
        assert (await journal.enqueue(quota_of_five.request(2))).quota_left == 3
        assert not streamed.done()
        await db.execute("COMMIT")
        assert (await streamed).quota_left == 0
    assert await quota_of_five.tenant.used() == len(await quota_of_five.tenant.events()) == 5


async def test_what_is_left_is_as_of_the_commit(quota_of_five: DirectWriter) -> None:
    async with quota_of_five.database.connection() as db:
        await open_stream(db, producer_key(quota_of_five.caller, "p"), quota_of_five.clock.now_us())
    await quota_of_five.write(quota_of_five.request(1))
    async with running(quota_of_five) as journal, await quota_of_five.tenant.connect() as db:
        await db.execute("BEGIN")
        await db.execute("UPDATE quota_usage SET used = used + 1")
        waiting = [
            journal.enqueue(request)
            for request in (
                quota_of_five.request(1),
                quota_of_five.request(1, position=StreamPosition("p", 1, 1)),
            )
        ]
        deadline = time.monotonic() + 20
        while len(await quota_of_five.tenant.rows(WAITING)) < 2:
            assert time.monotonic() < deadline, "nobody waits"
            await asyncio.sleep(0.005)
        await db.execute("COMMIT")
        left = [(await one).quota_left for one in waiting]
        assert set(left) == {1, 2}


async def test_a_journal_without_requests_does_not_look_for_any(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    pop_transaction = Queue.pop_transaction

    def counted(
        queue: Queue, is_set_aside: Callable[[PendingRequest], bool]
    ) -> list[PendingRequest]:
        nonlocal looks
        looks += 1
        return pop_transaction(queue, is_set_aside)

    monkeypatch.setattr(Queue, "pop_transaction", counted)
    async with running(quota_of_five) as journal:
        await journal.enqueue(quota_of_five.request(1))
        before = looks
        for _ in range(100):  # turns of the loop, in each of which a busy journal would look
            await asyncio.sleep(0)
        assert looks == before


async def test_a_lone_request_is_begun_at_once(quota_of_five: DirectWriter) -> None:
    async with running(quota_of_five) as journal:
        for _ in range(2):  # also right after another
            request = quota_of_five.request(1)
            answer = journal.enqueue(request)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert request.is_being_written
            await answer


async def test_the_next_transaction_takes_along_what_the_loop_has_at_hand(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the request that has waited, but also the one that the last answer lets through."""
    sizes: list[int] = []
    pop_transaction = Queue.pop_transaction

    clients: list[asyncio.Task[None]] = []

    async def client(requests: int) -> None:
        for _ in range(requests):
            await journal.enqueue(quota_of_five.request(1))

    def noted(queue: Queue, is_set_aside: Callable[[PendingRequest], bool]) -> list[PendingRequest]:
        requests = pop_transaction(queue, is_set_aside)
        if requests and not sizes:  # another comes while the first is being written
            clients.append(asyncio.create_task(client(1)))
        sizes.extend([len(requests)] * bool(requests))
        return requests

    monkeypatch.setattr(Queue, "pop_transaction", noted)
    async with running(quota_of_five) as journal:
        await client(2)
        await asyncio.gather(*clients)
    assert sizes == [1, 2]


async def in_lock_wait(journal: Journal, count: int) -> None:
    """Return once so many requests are in a lock wait."""

    def are_in() -> bool:
        return sum(map(len, journal._lock_waits._waits.values())) == count

    await eventually(are_in, "the requests are in a lock wait")


@pytest.mark.parametrize("requests", [1, 3])
async def test_a_journal_that_is_closed_during_a_lock_wait_ends_after_it(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    monkeypatch.setattr(core.postgres.sessions, "JOURNAL_LOCK_MILLISECONDS", 50)
    writer = quota_of_five
    await writer.write(writer.request(1))
    journal = Journal(writer.database, writer.clock, Counters(), WorkerCache())
    run = asyncio.create_task(journal.run())
    async with await writer.tenant.connect() as db:
        await db.execute("BEGIN")
        await db.execute("SELECT FROM quota_usage FOR UPDATE")
        answers = [journal.enqueue(writer.request(1)) for _ in range(requests)]
        await in_lock_wait(journal, requests)
        journal.close()
        await asyncio.sleep(0)
        await db.execute("COMMIT")
    await asyncio.gather(*answers)
    await asyncio.wait_for(run, WAIT_SECONDS)


async def test_a_request_whose_lock_wait_is_over_is_not_given_up_for_its_age(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.journal.journal, "MAX_WAIT_SECONDS", 0.0)
    journal = Journal(quota_of_five.database, quota_of_five.clock, Counters(), WorkerCache())
    request = quota_of_five.request(1)
    answer = journal.enqueue(request)
    [taken] = journal._single.pop_transaction(lambda _: False)
    taken.is_being_written = False
    journal._put_back([taken])
    journal._answer_overdue()
    assert not answer.done()
    answer.cancel()


async def test_a_request_does_not_wait_for_its_own_idempotency_key(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.journal.journal, "MAX_WAIT_SECONDS", 0.0)
    journal = Journal(quota_of_five.database, quota_of_five.clock, Counters(), WorkerCache())
    request = quota_of_five.request(1, key="k")
    answer = journal.enqueue(request)
    [taken] = journal._single.pop_transaction(lambda _: False)
    taken.is_being_written = False  # its transaction fell apart, and it is to be tried alone
    journal._answer_overdue()
    assert request.lock_wait is None
    with pytest.raises(IngestError):
        await answer


async def test_a_batch_without_a_valid_event_does_not_wait_for_the_database(
    quota_of_five: DirectWriter,
) -> None:
    journal = Journal(quota_of_five.database, quota_of_five.clock, Counters(), WorkerCache())
    events = [Event("deal.won", "code", Actor(external_id="somebody"), duration=-1)]
    batch = EventBatch("req_", events)
    request = PendingEvents(quota_of_five.caller, batch, quota_of_five.clock.now_us())
    answer = journal.enqueue(request)  # and nothing is written: run() is not called
    with pytest.raises(IngestError, match="duration"):
        await answer
    assert not journal


async def test_others_have_turns_while_those_that_wait_are_judged(
    quota_of_five: DirectWriter,
) -> None:
    journal = Journal(quota_of_five.database, quota_of_five.clock, Counters(), WorkerCache())
    batch = EventBatch("req_", [Event("deal.won", "code", None)] * MIN_SLICE_EVENTS)
    now_us = quota_of_five.clock.now_us()
    requests = [PendingEvents(quota_of_five.caller, batch, now_us) for _ in range(3)]
    answers = [journal.enqueue(request) for request in requests]  # and nothing is written
    await eventually(lambda: requests[0].is_judged, "they are being judged", poll_seconds=0)
    assert not requests[-1].is_judged
    await asyncio.wait(answers)
