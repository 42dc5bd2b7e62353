"""Rejections kept for operators: the latest of each organization, at a bounded cost."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from msgspec import structs

from core.error_codes import ErrorCode
from core.errors import IngestError
from core.journal import rejection_log
from core.journal.rejection_log import KEPT, NOTED_PER_SECOND, RejectionLog
from core.models import Caller, Rejection
from tests.support.manual_time import ManualTime
from tests.support.strategies import CALLER
from tests.support.tenant import Tenant, make_tenant

pytestmark = pytest.mark.anyio

ALL = "SELECT * FROM rejections ORDER BY organization_id, id"


def items(*indexes: int) -> list[Rejection]:
    """Rejected items of a batch."""
    return [
        Rejection(index, ErrorCode.INVALID_BODY, f"events[{index}].actor.email: must be shorter")
        for index in indexes
    ]


@pytest.fixture
async def tenant(database_url: str) -> Tenant:
    """An organization of the test's own."""
    return await make_tenant(database_url)


def caller_of(tenant: Tenant) -> Caller:
    """Whose requests are refused."""
    return structs.replace(CALLER, organization_id=tenant.organization.id)


async def kept(tenant: Tenant, log: RejectionLog) -> list[dict[str, Any]]:
    """The rejections in the database once all that was noted is there."""
    async with await tenant.connect() as db:
        await log.flush(db)
    return await tenant.rows(ALL)


async def test_what_was_refused_of_whose_request_and_why(tenant: Tenant) -> None:
    log, caller = RejectionLog(ManualTime().clock), caller_of(tenant)
    log.note_request(caller, "req_1", IngestError(ErrorCode.KEY_REVOKED, "Revoked."))
    log.note_items(caller, "req_2", items(3, 4), lambda index: f'{{"number": {index}}}')
    whole, third, fourth = sorted(await kept(tenant, log), key=lambda row: row["item_index"] or 0)
    assert (whole["request_id"], whole["code"], whole["message"]) == (
        "req_1",
        "key_revoked",
        "Revoked.",
    )
    assert (whole["item_index"], whole["field"], whole["item"]) == (None, None, None)
    assert (third["item_index"], third["field"]) == (3, "actor.email")
    assert (fourth["request_id"], fourth["item"]) == ("req_2", '{"number": 4}')
    assert (fourth["app_slug"], fourth["key_hint"]) == (caller.app_slug, caller.key_hint)


async def test_the_rate_limit_is_only_counted(tenant: Tenant) -> None:
    log = RejectionLog(ManualTime().clock)
    log.note_request(caller_of(tenant), "req_1", IngestError(ErrorCode.RATE_LIMITED, "Slower."))
    assert await kept(tenant, log) == []


async def test_the_latest_are_kept(tenant: Tenant) -> None:
    time = ManualTime()
    log, caller = RejectionLog(time.clock), caller_of(tenant)
    for number in range(3):
        log.note_items(caller, f"req_{number}", items(*range(KEPT // 2)))
        await kept(tenant, log)
        time.advance(KEPT / 2 / NOTED_PER_SECOND)
    rows = await kept(tenant, log)
    assert len(rows) == KEPT
    assert {row["request_id"] for row in rows} == {"req_1", "req_2"}


async def test_a_flood_is_kept_at_a_bounded_rate(tenant: Tenant) -> None:
    time = ManualTime()
    log, caller = RejectionLog(time.clock), caller_of(tenant)
    log.note_items(caller, "burst", items(*range(KEPT + 200)))
    time.advance(2)
    for number in range(500):
        log.note_items(caller, f"req_{number}", items(0))
    rows = await kept(tenant, log)
    assert len(rows) == KEPT
    later = [row for row in rows if row["request_id"] != "burst"]
    assert len(later) == 2 * NOTED_PER_SECOND


async def test_a_neighbour_has_a_share_of_its_own(tenant: Tenant) -> None:
    log, caller = RejectionLog(ManualTime().clock), caller_of(tenant)
    noisy = structs.replace(caller, organization_id=caller.app_id)
    log.note_items(noisy, "req_1", items(*range(2 * KEPT)))
    log.note_items(caller, "req_2", items(1))
    assert [row["request_id"] for row in await kept(tenant, log)].count("req_2") == 1


async def test_what_cannot_be_written_is_kept_within_bounds(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejection_log, "MAX_WAITING", 2)
    log, caller = RejectionLog(ManualTime().clock), caller_of(tenant)
    log.note_items(caller, "req_1", items(0, 1, 2))
    async with await tenant.connect() as db:
        await db.execute("ALTER TABLE rejections RENAME TO away")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await log.flush(db)
        await db.execute("ALTER TABLE away RENAME TO rejections")
    log.note_items(caller, "req_2", items(5))
    assert [row["item_index"] for row in await kept(tenant, log)] == [0, 1]
