"""PostgreSQL's errors, by what can be done about them."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from core.failure_log import one_line
from core.postgres.errors import (
    NoAnswerError,
    is_away,
    is_connection_loss,
    is_temporary,
    is_transient,
    is_unwritable,
    temporary_failure,
)
from tests.support.database import connect
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("error", "lost", "transient", "temporary"),
    [
        (psycopg.OperationalError("no SQLSTATE: libpq lost it"), True, True, True),
        (psycopg.InterfaceError("the connection is closed"), True, True, True),
        (NoAnswerError("nothing in time"), True, True, True),
        (errors.ConnectionFailure(), True, True, True),  # 08006
        (errors.AdminShutdown(), True, True, True),  # 57P01
        (errors.ReadOnlySqlTransaction(), False, True, True),  # 25006
        (errors.InsufficientPrivilege(), False, True, True),  # 42501
        (errors.TooManyConnections(), False, True, True),  # 53300
        (errors.DiskFull(), False, True, True),  # 53100
        (errors.IoError(), False, True, True),  # 58030
        (errors.SerializationFailure(), False, True, True),
        (errors.DeadlockDetected(), False, True, True),
        (errors.InvalidSqlStatementName(), False, True, True),
        (errors.InternalError_(), False, True, True),  # XX000
        (errors.QueryCanceled(), False, False, True),
        (errors.LockNotAvailable(), False, False, True),
        (errors.UniqueViolation(), False, False, False),
        (errors.UndefinedTable(), False, False, False),
        (ValueError(), False, False, False),
    ],
)
def test_errors_are_told_apart(
    error: Exception, lost: bool, transient: bool, temporary: bool
) -> None:
    assert is_connection_loss(error) == lost
    assert is_away(error) == (lost or is_unwritable(error))
    assert is_transient(error) == transient
    assert is_temporary(error) == temporary


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.LockNotAvailable(), "too busy"),
        (psycopg.OperationalError(), "cannot reach"),
        (errors.DiskFull(), "takes no writes"),
    ],
)
def test_a_client_is_told_nothing_of_the_database_but_to_retry(
    error: Exception, words: str
) -> None:
    answer = temporary_failure(error)
    assert (answer.code, answer.transient) == ("internal_error", True)
    assert words in answer.message
    assert answer.retry_after_seconds


@pytest.mark.anyio
async def test_a_session_that_the_server_ends_is_lost_whatever_the_reason(
    database_url: str,
) -> None:
    async with await connect(database_url) as db, await connect(database_url) as other:
        # Long enough for a busy machine to read this answer before the end: libpq would take an
        # end that came with it for a notice.
        await db.execute("SET idle_in_transaction_session_timeout = '300ms'; BEGIN")
        pid = db.info.backend_pid

        async def is_ended() -> bool:
            rows = await other.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,))
            return await rows.fetchone() is None

        await eventually(is_ended, "the server has ended the session")
        with pytest.raises(errors.IdleInTransactionSessionTimeout) as caught:
            await db.execute("SELECT 1")
        assert caught.value.diag.severity_nonlocalized == "FATAL"
        assert is_connection_loss(caught.value)
        await db.close()


@pytest.mark.anyio
async def test_an_error_has_one_line_in_the_log(database_url: str) -> None:
    async with await connect(database_url) as db:
        with pytest.raises(errors.UndefinedTable) as other:
            await db.execute("SELECT FROM letters")
        assert "\n" in str(other.value)
        assert "\n" not in one_line(other.value)
