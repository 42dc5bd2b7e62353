"""Looking up rejections, and following them as processes write them."""

from __future__ import annotations

import pytest
from msgspec import structs

from core.admin import rejections
from core.admin.errors import InvalidValueError
from core.admin.rejections import Follower, Selection
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.journal.rejection_log import RejectionLog
from tests.support.manual_time import ManualTime
from tests.support.strategies import CALLER
from tests.support.tenant import make_tenant

pytestmark = pytest.mark.anyio

BROKEN = IngestError(ErrorCode.INVALID_BODY, "body: is not JSON")


async def test_an_organizations_rejections_are_found_by_code_app_and_request(
    database_url: str,
) -> None:
    tenant = await make_tenant(database_url)
    mine = structs.replace(CALLER, organization_id=tenant.organization.id)
    log = RejectionLog(ManualTime().clock)
    log.note_request(structs.replace(mine, app_slug="other"), "req_1", BROKEN)
    log.note_request(mine, "req_2", IngestError(ErrorCode.KEY_EXPIRED, "It has expired."))
    log.note_request(CALLER, "req_3", BROKEN)
    everything = Selection(tenant.organization.id)
    async with await tenant.connect() as db:
        await log.flush(db)

        async def found(**wanted: str) -> list[str]:
            selection = structs.replace(everything, **wanted)
            return [one.request_id for one in await rejections.newest(db, selection, 10)]

        assert sorted(await found()) == ["req_1", "req_2"]
        assert await found(code="key_expired") == ["req_2"]
        assert await found(app_slug="other") == ["req_1"]
        assert await found(request_id="req_1") == ["req_1"]
        assert await found(request_id="req_3") == []
        [one] = await rejections.newest(db, structs.replace(everything, app_slug="other"), 1)
        assert (one.code, one.field, one.index) == ("invalid_body", "body", None)


async def test_each_is_told_once_whatever_clock_its_process_has(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    mine = structs.replace(CALLER, organization_id=tenant.organization.id)
    ahead, behind = ManualTime(), ManualTime()
    ahead.advance(3_600)
    logs = [RejectionLog(time.clock) for time in (ahead, behind)]
    async with await tenant.connect() as db:
        logs[0].note_request(mine, "req_0", BROKEN)
        await logs[0].flush(db)
        follower = Follower(Selection(tenant.organization.id))
        assert [one.request_id for one in await follower.start(db, 5)] == ["req_0"]
        assert await follower.news(db) == []
        for number, log in enumerate(logs, 1):
            log.note_request(mine, f"req_{number}", BROKEN)
            await log.flush(db)
            assert [one.request_id for one in await follower.news(db)] == [f"req_{number}"]
        assert await follower.news(db) == []


def test_a_code_is_one_of_the_catalogue() -> None:
    assert rejections.check_code("key_revoked") == "key_revoked"
    with pytest.raises(InvalidValueError, match="did you mean key_revoked"):
        rejections.check_code("key_revokd")
    with pytest.raises(InvalidValueError, match="it is one of missing_authorization"):
        rejections.check_code("zzz")
