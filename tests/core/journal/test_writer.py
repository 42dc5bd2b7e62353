"""The writer: attempts that can help are repeated, and a commit status is asked for."""

from __future__ import annotations

from typing import ClassVar

import psycopg
import pytest

import core.journal.writer
from core.journal.lock_waits import LockedError
from core.journal.transaction import Transaction
from core.models import Receipt
from core.postgres.sessions import Connection
from tests.support.direct_writer import DirectWriter

pytestmark = pytest.mark.anyio


class Failing(Transaction):
    """A transaction whose first attempts fail before they send anything."""

    errors: ClassVar[list[Exception]]

    async def write(self, db: Connection, lock_seconds: float | None = None) -> None:
        if self.errors:
            raise self.errors.pop(0)
        await super().write(db, lock_seconds)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """The errors of the next attempts."""
    errors: list[Exception] = []
    monkeypatch.setattr(Failing, "errors", errors, raising=False)
    monkeypatch.setattr(core.journal.writer, "Transaction", Failing)
    monkeypatch.setattr(core.journal.writer, "RETRY_PAUSE_SECONDS", 0)
    return errors


async def test_a_passing_error_is_tried_again(
    quota_of_five: DirectWriter, failing: list[Exception]
) -> None:
    failing += [psycopg.errors.DeadlockDetected(), psycopg.OperationalError("lost")]
    [receipt] = await quota_of_five.write(quota_of_five.request(2))
    assert isinstance(receipt, Receipt)
    assert receipt.accepted == 2
    assert not failing


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        ([psycopg.errors.UndefinedTable()], psycopg.errors.UndefinedTable),
        ([psycopg.OperationalError("lost")] * 3, psycopg.OperationalError),
        ([psycopg.errors.LockNotAvailable()], LockedError),
    ],
)
async def test_any_other_error_means_that_nothing_is_written(
    quota_of_five: DirectWriter,
    failing: list[Exception],
    errors: list[Exception],
    raised: type[Exception],
) -> None:
    failing += errors
    with pytest.raises(raised):
        await quota_of_five.write(quota_of_five.request(2))
    assert not await quota_of_five.tenant.events()


async def test_a_lost_commit_counts_by_what_is_stored(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(Transaction):
        async def write(self, db: Connection, lock_seconds: float | None = None) -> None:
            await super().write(db, lock_seconds)
            raise psycopg.OperationalError("the answer to the COMMIT is lost")

    monkeypatch.setattr(core.journal.writer, "Transaction", Lost)
    [receipt] = await quota_of_five.write(quota_of_five.request(2))
    assert isinstance(receipt, Receipt)
    assert len(await quota_of_five.tenant.events()) == receipt.accepted == 2


async def test_a_transaction_that_rolls_back_instead_of_committing_is_an_error(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Transaction._check

    def rolled_back(transaction: Transaction) -> None:
        transaction._commit.tag = "ROLLBACK"
        check(transaction)

    monkeypatch.setattr(Transaction, "_check", rolled_back)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        await quota_of_five.write(quota_of_five.request(1))


WARN_AT_COMMIT = """
CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE WARNING 'not on the standby yet'; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON quota_usage DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION warn();
"""


async def test_a_commit_with_a_warning_counts_by_what_is_stored_durably(
    quota_of_five: DirectWriter, caplog: pytest.LogCaptureFixture
) -> None:
    # PostgreSQL warns so when somebody ends a wait for the synchronous standby.
    await quota_of_five.tenant.rows(WARN_AT_COMMIT)
    [receipt] = await quota_of_five.write(quota_of_five.request(2))
    assert isinstance(receipt, Receipt)
    assert "a commit got no answer; it took effect: True" in caplog.text
    assert len(await quota_of_five.tenant.events()) == receipt.accepted == 2


END_SESSIONS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'wepeople-ingest journal'
"""


async def test_a_session_that_was_ended_before_leaves_nothing_to_be_asked(
    quota_of_five: DirectWriter, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that stops says so to its sessions: there is something to read before the end."""
    await quota_of_five.write(quota_of_five.request(1))  # from now on the worker is known
    await quota_of_five.tenant.rows(END_SESSIONS)
    [receipt] = await quota_of_five.write(quota_of_five.request(1))
    assert isinstance(receipt, Receipt)
    assert "tried again" in caplog.text
    assert "a commit got no answer" not in caplog.text
