"""The modes of transactions: which is tried when, and the next one after a wrong assumption."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from psycopg.errors import InFailedSqlTransaction

import core.journal.transaction
import core.journal.writer
from core.errors import IngestError
from core.journal.mode import Mode
from core.journal.pending_events import PendingEvents
from core.journal.transaction import Transaction
from core.models import Actor, Receipt
from core.postgres import psycopg_internals
from core.postgres.pipeline import COMMIT, Command, CopyCommand, Statement
from core.postgres.sessions import Connection
from tests.support.direct_writer import DirectWriter

pytestmark = pytest.mark.anyio

OPTIMISTIC, STEPWISE, LOCKED = Mode.OPTIMISTIC, Mode.STEPWISE, Mode.LOCKED


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Mode]:
    """The modes of all attempts."""
    modes: list[Mode] = []

    class Watched(Transaction):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            modes.append(given[-1])

    monkeypatch.setattr(core.journal.writer, "Transaction", Watched)
    return modes


async def test_after_a_wrong_assumption_transactions_are_stepwise_for_a_while(
    quota_of_five: DirectWriter, tried: list[Mode], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def modes(*requests: PendingEvents) -> list[Mode]:
        tried.clear()
        await quota_of_five.write(*requests)
        return list(tried)

    monkeypatch.setattr(core.journal.writer, "STEPWISE_SECONDS", 0)
    await quota_of_five.write(quota_of_five.request(1, key="a"))
    assert await modes(quota_of_five.request(1, key="a"), quota_of_five.request(1)) == [
        OPTIMISTIC,
        STEPWISE,
    ]
    assert await modes(quota_of_five.request(1)) == [OPTIMISTIC]
    monkeypatch.setattr(core.journal.writer, "STEPWISE_SECONDS", 3_600)
    assert await modes(quota_of_five.request(1, key="a"), quota_of_five.request(1)) == [
        OPTIMISTIC,
        STEPWISE,
    ]
    assert await modes(quota_of_five.request(1)) == [STEPWISE]
    assert len(await quota_of_five.tenant.events()) == await quota_of_five.tenant.used() == 5


async def test_new_people_are_no_wrong_assumption(
    quota_of_five: DirectWriter, tried: list[Mode]
) -> None:
    for name in "ab":
        [receipt] = await quota_of_five.write(
            quota_of_five.request(1, actor=Actor(external_id=name))
        )
        assert isinstance(receipt, Receipt)
    assert tried == [OPTIMISTIC, OPTIMISTIC]


async def test_an_account_that_others_have_charged_meanwhile_is_locked(
    quota_of_five: DirectWriter, tried: list[Mode], monkeypatch: pytest.MonkeyPatch
) -> None:
    await quota_of_five.write(quota_of_five.request(1))
    tried.clear()
    write = CopyCommand.write

    async def charge_and_write(copy: CopyCommand, db: Connection, data: bytes) -> None:
        if len(tried) == 1:
            await quota_of_five.tenant.rows("UPDATE quota_usage SET used = used + 3")
        await write(copy, db, data)

    monkeypatch.setattr(CopyCommand, "write", charge_and_write)
    receipt, refused = await quota_of_five.write(quota_of_five.request(1), quota_of_five.request(1))
    assert isinstance(receipt, Receipt)
    assert (receipt.accepted, receipt.quota_left) == (1, 0)
    assert isinstance(refused, IngestError)
    assert tried == [OPTIMISTIC, LOCKED]


@pytest.mark.usefixtures("each_mode")
async def test_a_commit_that_the_server_answers_with_a_rollback_is_no_commit(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rolls_back(statement: Statement | str, *arguments: str) -> Command:
        return Command("ROLLBACK" if statement == COMMIT else statement, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(core.journal.transaction, "Command", rolls_back)
        with pytest.raises(InFailedSqlTransaction, match="ROLLBACK"):
            await quota_of_five.write(quota_of_five.request(1, key="a"))
    assert await quota_of_five.tenant.events() == []
    [receipt] = await quota_of_five.write(quota_of_five.request(1, key="a"))
    assert isinstance(receipt, Receipt)
    assert (receipt.accepted, receipt.replayed) == (1, False)


# --- a lone request, whose transaction is sent whole ----------------------------------------------


@pytest.fixture
async def queries(quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The queries of the transactions from now on; the worker of the events is known."""
    await quota_of_five.write(quota_of_five.request(1))
    sent: list[bytes] = []
    run_query = psycopg_internals.run_query

    async def note(db: Connection, query: bytes, *others: Any) -> Any:
        sent.append(query)
        return await run_query(db, query, *others)

    monkeypatch.setattr(psycopg_internals, "run_query", note)
    return sent


@pytest.mark.parametrize("key", [None, "a"])
async def test_a_lone_request_takes_one_round_trip(
    quota_of_five: DirectWriter, queries: list[bytes], key: str | None
) -> None:
    [receipt] = await quota_of_five.write(quota_of_five.request(2, key=key))
    assert isinstance(receipt, Receipt)
    assert (receipt.accepted, receipt.quota_left) == (2, 2)
    [query] = queries
    assert b"COPY" not in query
    assert len(await quota_of_five.tenant.events()) == await quota_of_five.tenant.used() == 3


async def test_others_and_streams_have_their_rows_copied(
    quota_of_five: DirectWriter, queries: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    await quota_of_five.write(quota_of_five.request(1), quota_of_five.request(1))
    monkeypatch.setattr(core.journal.transaction, "MAX_WHOLE_EVENTS", 1)
    await quota_of_five.write(quota_of_five.request(2))
    assert [b"COPY events" in query for query in queries] == [True, True]


async def change_a_worker(writer: DirectWriter) -> None:
    await writer.tenant.rows("UPDATE organizations SET worker_changes = worker_changes + 1")


async def use_up_the_quota(writer: DirectWriter) -> None:
    await writer.tenant.rows("UPDATE quota_usage SET used = 4")


async def use_the_key(writer: DirectWriter) -> None:
    await writer.write(writer.request(2, key="a"))


@pytest.mark.parametrize(
    ("change", "accepted"),
    [(change_a_worker, 2), (use_up_the_quota, 1), (use_the_key, 2)],
)
async def test_what_it_assumes_is_checked_by_its_statements(
    quota_of_five: DirectWriter,
    queries: list[bytes],
    tried: list[Mode],
    change: Callable[[DirectWriter], Awaitable[None]],
    accepted: int,
) -> None:
    await change(quota_of_five)
    before = len(await quota_of_five.tenant.events())
    tried.clear()
    queries.clear()
    [receipt] = await quota_of_five.write(quota_of_five.request(2, key="a"))
    assert isinstance(receipt, Receipt)
    assert receipt.accepted == accepted
    assert b"COPY" not in queries[0]
    assert tried[:2] == [OPTIMISTIC, STEPWISE]
    stored = len(await quota_of_five.tenant.events())
    assert stored == before + (0 if receipt.replayed else accepted)


async def test_of_two_at_once_with_the_same_key_one_is_written(
    quota_of_five: DirectWriter, queries: list[bytes]
) -> None:
    other = await another_process(quota_of_five)
    receipts = await asyncio.gather(
        *(one.write(one.request(2, key="a")) for one in (quota_of_five, other))
    )
    assert sorted(one.replayed for [one] in receipts if isinstance(one, Receipt)) == [False, True]
    assert len(await quota_of_five.tenant.events()) == await quota_of_five.tenant.used() == 3
    assert queries


async def test_many_at_once_are_never_one_over_the_quota(
    quota_of_five: DirectWriter, queries: list[bytes]
) -> None:
    writers = [quota_of_five, await another_process(quota_of_five)]

    async def write(one: DirectWriter) -> int:
        answers = [(await one.write(one.request(1), lock_seconds=60))[0] for _ in range(4)]
        return sum(isinstance(answer, Receipt) for answer in answers)

    assert sum(await asyncio.gather(*map(write, writers))) == 4  # one was stored before
    assert len(await quota_of_five.tenant.events()) == await quota_of_five.tenant.used() == 5
    assert queries


async def another_process(writer: DirectWriter) -> DirectWriter:
    """A writer with a cache of its own, which knows the worker of the events."""
    other = DirectWriter(writer.database, writer.tenant, writer.caller)
    await other.write(other.request(1))
    await writer.tenant.rows(
        "DELETE FROM events WHERE id = (SELECT max(id::text)::uuid FROM events)"
    )
    await writer.tenant.rows("UPDATE quota_usage SET used = used - 1")
    return other
