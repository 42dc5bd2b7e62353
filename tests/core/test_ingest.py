"""The road of a batch: enqueued at once, in order; counted once; gone from memory when refused."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
import pytest

from core.access.admission import MAX_ACKED_A_TURN, Admission
from core.access.authentication import MAX_CALLER_AGE_SECONDS, Authenticator
from core.access.fair_queue import STRANGERS
from core.access.invalidation import Invalidation
from core.access.key_secrets import KeySecret, KeySecrets
from core.access.rate_limits import OwnBuckets, RateLimiter
from core.access.shared_budget import SharedBudget
from core.cells import Cell, Cells
from core.counters import Counters
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.ingest import Ingestor
from core.journal.app_producers import open_stream
from core.journal.journal import Journal
from core.journal.producers import producer_key
from core.journal.rejections import Rejections
from core.journal.traffic import Traffic
from core.journal.workers import WorkerCache
from core.models import Actor, Caller, Event, EventBatch, StreamPosition
from core.postgres.database import Database
from core.refusal_log import RefusalLog
from tests.support.direct_writer import DirectWriter
from tests.support.waiting import eventually, turns

pytestmark = pytest.mark.anyio

SOMEBODY = Actor(external_id="crm-user-1")
NOBODY = Actor(worker_id="wrk_" + "0" * 26)
NOT_ALLOWED = Event("not.allowed", "code", SOMEBODY)
EVENT = Event("ticket.resolved", "code", SOMEBODY)
OF_NOBODY = Event("ticket.resolved", "code", NOBODY)
SECRET = KeySecret(b"secret", None)
SECRETS = KeySecrets(SECRET, (SECRET,))


class IngestRoad:
    """An ingestor over a journal that commits to a real PostgreSQL, and its counts."""

    def __init__(self, writer: DirectWriter, cells: Cells, counters: Counters) -> None:
        database, clock = writer.database, writer.clock
        self.changes = Invalidation(database, clock)
        self.counters = counters
        self.journal, self.rejections = cells.home.journal, cells.home.rejections
        self.authenticator = Authenticator(
            database, cells.database_of, self.changes, clock, SECRETS
        )
        self.ingestor = Ingestor(
            Admission(),
            self.authenticator,
            RateLimiter(clock, OwnBuckets()),
            cells,
            RefusalLog(clock),
            counters,
            clock,
        )

    def count(self, series: str, **labels: str) -> float:
        """The value of a metric."""
        return self.counters.registry.get_sample_value(series, labels) or 0.0

    async def rejected_events(self, writer: DirectWriter) -> dict[str, int]:
        """The rejected events by code, as operators read them."""
        async with writer.database.connection() as db:
            await self.rejections.flush(db)
        rows = await writer.tenant.rows("SELECT code, events FROM refusals")
        return {row["code"]: row["events"] for row in rows}


@contextlib.asynccontextmanager
async def committing(road: IngestRoad) -> AsyncIterator[None]:
    """The journal commits until the block ends."""
    run = asyncio.create_task(road.journal.run())
    try:
        yield
    finally:
        road.journal.close()
        await run


@pytest.fixture
async def road(quota_of_five: DirectWriter) -> AsyncIterator[IngestRoad]:
    """The road of an organization that may store five events this month."""
    counters, clock = Counters(), quota_of_five.clock

    @contextlib.asynccontextmanager
    async def opened(name: str, database: Database, openings: SharedBudget) -> AsyncIterator[Cell]:
        journal = Journal(database, clock, counters, WorkerCache())
        yield Cell(name, database, openings, journal, Rejections(clock), Traffic(clock))

    async with Cells(quota_of_five.database, opened, clock, counters) as cells:
        yield IngestRoad(quota_of_five, cells, counters)


def batch(*events: Event, key: str | None = None) -> EventBatch:
    """A batch of a single request."""
    return EventBatch("req_1", events, key)


async def test_batches_of_a_stream_are_committed_in_the_order_of_enqueuing(
    road: IngestRoad, quota_of_five: DirectWriter
) -> None:
    caller = quota_of_five.caller
    async with quota_of_five.database.connection() as db:
        await open_stream(db, producer_key(caller, "p"), quota_of_five.clock.now_us())
    async with committing(road):
        # A batch that had to await anything before it is in the queue would be overtaken, and the
        # next one would leave a gap in the sequence.
        answers = []
        for sequence in range(1, 6):
            position = StreamPosition("p", 1, sequence)
            streamed = EventBatch("req_1", [EVENT], streamed=True, position=position)
            answers.append(road.ingestor.enqueue(caller, streamed, 0.0))
            assert len(road.journal) == sequence
        receipts = [await answer for answer in answers]
    assert [receipt.quota_left for receipt in receipts] == [0] * 5
    assert not any(receipt.duplicate for receipt in receipts)


async def test_events_are_counted_once_wherever_they_are_rejected(
    road: IngestRoad, quota_of_five: DirectWriter
) -> None:
    ingest, caller = road.ingestor.ingest, quota_of_five.caller
    async with committing(road):
        first = await ingest(caller, batch(EVENT, EVENT, NOT_ALLOWED, OF_NOBODY, key="a"))
        assert (await ingest(caller, batch(EVENT, EVENT, NOT_ALLOWED, OF_NOBODY, key="a"))).replayed
        for refused in (NOT_ALLOWED, OF_NOBODY):
            with pytest.raises(IngestError):
                await ingest(caller, batch(refused))
        with pytest.raises(IngestError):
            await ingest(caller, EventBatch("req_1", []))
    assert first.accepted == road.count("wepeople_events_accepted_total") == 2
    counted = {"forbidden_event_type": 2, "worker_not_found": 2}
    assert await road.rejected_events(quota_of_five) == counted
    for code, events in counted.items():
        assert road.count("wepeople_events_rejected_total", code=code) == events


@pytest.mark.parametrize("refused", [NOT_ALLOWED, OF_NOBODY], ids=["before it", "by the database"])
async def test_a_refused_batch_is_in_no_circle_with_its_error(
    road: IngestRoad, quota_of_five: DirectWriter, no_collector: None, refused: Event
) -> None:
    async def error_of_ingest() -> weakref.ref[BaseException]:
        try:
            await road.ingestor.ingest(quota_of_five.caller, batch(refused))
        except IngestError as error:
            return weakref.ref(error)
        raise AssertionError("not refused")

    async with committing(road):
        error = await error_of_ingest()
        await asyncio.sleep(0)  # the turn in which the answer came holds it to its end
        assert error() is None


async def test_a_caller_who_gives_up_leaves_the_queue(
    road: IngestRoad, quota_of_five: DirectWriter
) -> None:
    waiting = asyncio.create_task(road.ingestor.ingest(quota_of_five.caller, batch(EVENT)))
    await eventually(
        lambda: road.count("wepeople_journal_waiting_requests") == 1, "the request is counted"
    )
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with committing(road):
        pass
    assert await quota_of_five.tenant.events() == []


async def test_a_caller_whose_message_came_slowly_is_looked_at_again(
    road: IngestRoad, quota_of_five: DirectWriter
) -> None:
    caller, now = quota_of_five.caller, asyncio.get_running_loop().time()
    assert await road.ingestor.confirm(caller, None, now) is caller
    with pytest.raises(IngestError) as raised:
        await road.ingestor.confirm(caller, None, now - 2 * MAX_CALLER_AGE_SECONDS)
    assert raised.value.code is ErrorCode.MISSING_AUTHORIZATION


async def test_the_rights_of_a_streamed_batch_are_those_after_its_wait_for_room(
    road: IngestRoad, quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = quota_of_five.caller
    after = msgspec.structs.replace(before, allowed_event_types=frozenset())
    callers = [before, after]

    async def authenticate(_: Authenticator, __: str | None) -> Caller:
        return callers.pop(0)

    monkeypatch.setattr(Authenticator, "authenticate", authenticate)
    admission = Admission()
    monkeypatch.setattr(road.ingestor, "_admission", admission)
    everything = admission.streamed.free
    assert admission.streamed.try_take(STRANGERS, everything)
    waiting = asyncio.create_task(road.ingestor.admit_batch("Bearer", 1, 100))
    await eventually(lambda: callers == [after], "the batch waits for room")
    assert not waiting.done()
    admission.streamed.give_back(STRANGERS, everything)
    caller, room = await waiting
    assert caller is after
    room.release()
    assert admission.streamed.taken == 0


async def test_a_streamed_batch_that_need_not_wait_is_authenticated_once(
    road: IngestRoad, quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = [quota_of_five.caller]

    async def authenticate(_: Authenticator, __: str | None) -> Caller:
        return callers.pop()

    monkeypatch.setattr(Authenticator, "authenticate", authenticate)
    caller, room = await road.ingestor.admit_batch("Bearer", 1, 100)
    assert caller is quota_of_five.caller
    room.release()


async def test_acks_are_sent_a_few_in_a_turn_and_of_each_organization_in_turn(
    road: IngestRoad, quota_of_five: DirectWriter
) -> None:
    greedy = quota_of_five.caller
    quiet = msgspec.structs.replace(greedy, organization_id=UUID(int=7))
    sent: list[Caller] = []

    async def send(caller: Caller) -> None:
        await road.ingestor.begin_ack(caller)
        sent.append(caller)

    sending = [asyncio.create_task(send(one)) for one in [greedy] * 100 + [quiet]]
    await turns(1)
    assert len(sent) == MAX_ACKED_A_TURN
    await asyncio.gather(*sending)
    assert quiet in sent[: 2 * MAX_ACKED_A_TURN]


@contextlib.asynccontextmanager
async def strangers_who_come_again(road: IngestRoad) -> AsyncIterator[list[int]]:
    """500 requests on connections that were refused; the list has those that are again by now."""
    refused: list[int] = []

    async def ask(number: int) -> None:
        with pytest.raises(IngestError, match="Send your API key"):
            await road.ingestor.admit(None, was_refused=True)
        refused.append(number)

    flood = [asyncio.create_task(ask(number)) for number in range(500)]
    await turns(2)
    yield refused
    await asyncio.gather(*flood)
    assert len(refused) == 500


async def test_a_stranger_who_comes_new_is_not_behind_those_who_were_refused(
    road: IngestRoad,
) -> None:
    async with strangers_who_come_again(road) as refused:
        with pytest.raises(IngestError, match="Send your API key"):
            await road.ingestor.admit(None)
        assert len(refused) < 50


async def test_a_key_that_was_known_before_a_change_is_not_behind_those_who_were_refused(
    road: IngestRoad, quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever shares a proxy's connection with a stranger is not taken for one."""
    key, caller, cache = "wp_live_" + "0" * 32, quota_of_five.caller, road.authenticator._cache
    cache.remember(SECRETS.digests(key)[0], caller, cache.begin())
    road.changes._publish(caller.organization_id)

    async def begun(*_: object) -> Caller:
        raise NotImplementedError

    monkeypatch.setattr(Authenticator, "identify", begun)
    async with strangers_who_come_again(road) as refused:
        with pytest.raises(NotImplementedError):
            await road.ingestor.admit(f"Bearer {key}", was_refused=True)
        assert len(refused) < 50
