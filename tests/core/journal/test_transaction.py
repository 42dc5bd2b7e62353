"""How much of a group is foreseen, and what it costs to be wrong."""

from __future__ import annotations

from typing import Any

import pytest

import core.journal.writer
from core.journal.pending_events import PendingEvents
from core.journal.transaction import Mode, Transaction
from core.models import Actor, Receipt
from core.postgres.pipeline import CopyCommand
from core.postgres.sessions import Connection
from tests.support.journal_writer import Written

pytestmark = pytest.mark.anyio

OPTIMISTIC, STEPWISE, LOCKED = Mode.OPTIMISTIC, Mode.STEPWISE, Mode.LOCKED


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Mode]:
    """The approaches of all attempts."""
    approaches: list[Mode] = []

    class Watched(Transaction):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            approaches.append(given[-1])

    monkeypatch.setattr(core.journal.writer, "Transaction", Watched)
    return approaches


async def test_after_what_was_not_foreseen_nothing_is_for_a_while(
    five: Written, tried: list[Mode], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def approaches(*requests: PendingEvents) -> list[Mode]:
        tried.clear()
        await five.write(*requests)
        return list(tried)

    monkeypatch.setattr(core.journal.writer, "STEPWISE_SECONDS", 0)
    await five.write(five.request(1, key="a"))
    assert await approaches(five.request(1, key="a"), five.request(1)) == [OPTIMISTIC, STEPWISE]
    assert await approaches(five.request(1)) == [OPTIMISTIC]
    monkeypatch.setattr(core.journal.writer, "STEPWISE_SECONDS", 3_600)
    assert await approaches(five.request(1, key="a"), five.request(1)) == [OPTIMISTIC, STEPWISE]
    assert await approaches(five.request(1)) == [STEPWISE]
    assert len(await five.tenant.events()) == await five.tenant.used() == 5


async def test_people_who_are_new_are_no_surprise(five: Written, tried: list[Mode]) -> None:
    for name in "ab":
        [receipt] = await five.write(five.request(1, actor=Actor(external_id=name)))
        assert isinstance(receipt, Receipt)
    assert tried == [OPTIMISTIC, OPTIMISTIC]


async def test_an_account_that_others_have_charged_meanwhile_is_locked(
    five: Written, tried: list[Mode], monkeypatch: pytest.MonkeyPatch
) -> None:
    await five.write(five.request(1))
    tried.clear()
    write = CopyCommand.write

    async def charge_and_write(copy: CopyCommand, db: Connection, data: bytes) -> None:
        if len(tried) == 1:
            await five.tenant.rows("UPDATE quota_usage SET used = used + 3")
        await write(copy, db, data)

    monkeypatch.setattr(CopyCommand, "write", charge_and_write)
    [receipt] = await five.write(five.request(2))
    assert isinstance(receipt, Receipt)
    assert (receipt.accepted, len(receipt.rejected), receipt.quota_left) == (1, 1, 0)
    assert tried == [OPTIMISTIC, LOCKED]
