"""The modes of transactions: which is tried when, and the next one after a wrong assumption."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.errors import InFailedSqlTransaction

import core.journal.transaction
import core.journal.writer
from core.journal.mode import Mode
from core.journal.pending_events import PendingEvents
from core.journal.transaction import Transaction
from core.models import Actor, Receipt
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
    [receipt] = await quota_of_five.write(quota_of_five.request(2))
    assert isinstance(receipt, Receipt)
    assert (receipt.accepted, len(receipt.rejected), receipt.quota_left) == (1, 1, 0)
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
