"""How much of a group is foreseen, and what it costs to be wrong."""

from __future__ import annotations

from typing import Any

import pytest

import core.writer
from core.database import Connection
from core.drafts import EventsDraft
from core.events import Actor, Receipt
from core.group import Approach, Group
from core.statements import Copy
from tests.core.written import Written

pytestmark = pytest.mark.anyio

AT_ONCE, STEP_BY_STEP, LOCKED = Approach.AT_ONCE, Approach.STEP_BY_STEP, Approach.LOCKED


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Approach]:
    """The approaches of all attempts."""
    approaches: list[Approach] = []

    class Watched(Group):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            approaches.append(given[-1])

    monkeypatch.setattr(core.writer, "Group", Watched)
    return approaches


async def test_after_what_was_not_foreseen_nothing_is_for_a_while(
    five: Written, tried: list[Approach], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def approaches(*drafts: EventsDraft) -> list[Approach]:
        tried.clear()
        await five.write(*drafts)
        return list(tried)

    monkeypatch.setattr(core.writer, "CAREFUL_SECONDS", 0)
    await five.write(five.draft(1, key="a"))
    assert await approaches(five.draft(1, key="a"), five.draft(1)) == [AT_ONCE, STEP_BY_STEP]
    assert await approaches(five.draft(1)) == [AT_ONCE]
    monkeypatch.setattr(core.writer, "CAREFUL_SECONDS", 3_600)
    assert await approaches(five.draft(1, key="a"), five.draft(1)) == [AT_ONCE, STEP_BY_STEP]
    assert await approaches(five.draft(1)) == [STEP_BY_STEP]
    assert len(await five.tenant.events()) == await five.tenant.used() == 5


async def test_people_who_are_new_are_no_surprise(five: Written, tried: list[Approach]) -> None:
    for name in "ab":
        [receipt] = await five.write(five.draft(1, actor=Actor(external_id=name)))
        assert isinstance(receipt, Receipt)
    assert tried == [AT_ONCE, AT_ONCE]


async def test_an_account_that_others_have_charged_meanwhile_is_locked(
    five: Written, tried: list[Approach], monkeypatch: pytest.MonkeyPatch
) -> None:
    await five.write(five.draft(1))
    tried.clear()
    write = Copy.write

    async def charge_and_write(copy: Copy, db: Connection, data: bytes) -> None:
        if len(tried) == 1:
            await five.tenant.rows("UPDATE quota_usage SET used = used + 3")
        await write(copy, db, data)

    monkeypatch.setattr(Copy, "write", charge_and_write)
    [receipt] = await five.write(five.draft(2))
    assert isinstance(receipt, Receipt)
    assert (receipt.accepted, len(receipt.rejected), receipt.quota_left) == (1, 1, 0)
    assert tried == [AT_ONCE, LOCKED]
