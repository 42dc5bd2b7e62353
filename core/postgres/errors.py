"""PostgreSQL's errors and their meaning to the core."""

from __future__ import annotations

import psycopg
from psycopg import errors

from core.errors import IngestError, unavailable


class DatabaseUnusableError(Exception):
    """The database cannot be used as it is; the message says why and what to do."""


class NoAnswerError(psycopg.OperationalError):
    """The server said nothing in time, as if the connection were lost: it hangs, or the network."""


def is_connection_loss(error: BaseException) -> bool:
    """Whether the error says that the server or the way to it is gone, not that SQL was wrong."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return False
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        # Class 08, 57P (shutdown, crash), 53 (no room for one more connection, a full disk) or no
        # SQLSTATE at all: libpq lost or never had it.
        state = error.sqlstate
        return state is None or state.startswith(("08", "57P", "53"))
    return False


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction can succeed if it is simply run again."""
    return is_connection_loss(error) or isinstance(
        error,
        errors.SerializationFailure | errors.DeadlockDetected | errors.InvalidSqlStatementName,
    )


def is_passing(error: BaseException) -> bool:
    """Whether a client who sends the same again later can expect it to work."""
    return is_transient(error) or isinstance(error, errors.QueryCanceled | errors.LockNotAvailable)


def violated_constraint(error: psycopg.Error) -> str | None:
    """The name of the constraint that refused a row, if that is what happened."""
    return error.diag.constraint_name if isinstance(error, psycopg.IntegrityError) else None


def database_away() -> IngestError:
    """The answer to a client while the database cannot be reached."""
    return unavailable("The service cannot reach its storage right now. Retry shortly.")


def passing(error: BaseException) -> IngestError:
    """The answer to a client for an error that :func:`is_passing`."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return unavailable("The service's storage is too busy. Nothing was written; retry shortly.")
    return database_away()


def one_line(error: BaseException) -> str:
    """An error's text fit for a log line."""
    return " ".join(str(error).split())
