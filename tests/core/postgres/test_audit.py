"""The audit log's own statements: what is too old goes, in bounded steps."""

from __future__ import annotations

import pytest

from core.clock import Clock
from core.journal.rejections import Rejections
from core.journal.traffic import Traffic
from core.maintenance import Maintenance
from core.postgres import audit
from core.postgres.audit import SERVICE, Change
from core.postgres.database import Database
from tests.support.database import connect

pytestmark = pytest.mark.anyio


async def test_entries_are_kept_for_so_many_days(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_CLEANED_AT_ONCE", 1)
    async with await connect(database_url) as db, Database(database_url) as database:
        for subject, days in (("1", 1), ("2", 1), ("3", -1)):
            await audit.record(db, SERVICE, Change("test", None, subject))
            await db.execute(
                "UPDATE audit SET at = now() - %s * interval '1 day' WHERE subject = %s",
                (audit.KEPT_DAYS + days, subject),
            )
        clock = Clock()
        await Maintenance(database, Rejections(clock), Traffic(clock), clock, None)._clean_audit(db)
        rows = await (await db.execute("SELECT subject FROM audit")).fetchall()
    assert rows == [("3",)]
