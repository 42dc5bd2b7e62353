"""PostgreSQL's errors, by what can be done about them."""

from __future__ import annotations

import psycopg
from psycopg import errors

from core.errors import IngestError, unavailable


class DatabaseUnusableError(Exception):
    """The database cannot be used as it is. The message says why, and how to change that."""


class NoAnswerError(psycopg.OperationalError):
    """The server did not answer in time: it hangs, or the network does. A lost connection."""


def is_connection_loss(error: BaseException) -> bool:
    """Whether the server or the way to it is gone, as opposed to an error of the SQL."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return False
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        # Class 08; 57P: shutdown, crash; 53: no room for one more connection, a full disk. Without
        # a SQLSTATE, libpq lost the connection or never had it.
        state = error.sqlstate
        return state is None or state.startswith(("08", "57P", "53"))
    return False


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction can succeed if it is simply run again."""
    return is_connection_loss(error) or isinstance(
        error,
        errors.SerializationFailure | errors.DeadlockDetected | errors.InvalidSqlStatementName,
    )


def is_temporary(error: BaseException) -> bool:
    """Whether a client that sends the same request again later can expect it to work."""
    return is_transient(error) or isinstance(error, errors.QueryCanceled | errors.LockNotAvailable)


def temporary_failure(error: BaseException) -> IngestError:
    """The answer to a client for an error that :func:`is_temporary`."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return unavailable("The service's storage is too busy. Nothing was written; retry shortly.")
    return database_away()


def database_away() -> IngestError:
    """The answer to a client while the database cannot be reached."""
    return unavailable("The service cannot reach its storage right now. Retry shortly.")


def violated_constraint(error: psycopg.Error) -> str | None:
    """The name of the constraint that refused a row; None for any other error."""
    return error.diag.constraint_name if isinstance(error, psycopg.IntegrityError) else None
