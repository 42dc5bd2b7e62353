"""PostgreSQL's errors, by what can be done about them."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import errors

from core.errors import IngestError, unavailable

_ENDS_SESSION: Final = ("FATAL", "PANIC")  # severities


class DatabaseUnusableError(Exception):
    """The database cannot be used as it is. The message says why, and how to change that."""


class NoAnswerError(psycopg.OperationalError):
    """The server did not answer in time: it hangs, or the network does. A lost connection."""


def is_connection_loss(error: BaseException) -> bool:
    """Whether the server or the way to it is gone, as opposed to an error of the SQL."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return False
    if isinstance(error, psycopg.Error) and error.diag.severity_nonlocalized in _ENDS_SESSION:
        return True
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        # Class 08; 57P: shutdown, crash. Without a SQLSTATE, libpq lost the connection or never had
        # it.
        state = error.sqlstate
        return state is None or state.startswith(("08", "57P"))
    return False


def is_unwritable(error: BaseException) -> bool:
    """Whether the server answers, and cannot be written to as it is: nothing was written.

    It is read-only or a standby (25006), has no disk or memory left (class 53), cannot use its
    files (class 58), or has taken away the right to write (42501).
    """
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state is not None and state.startswith(("25006", "53", "58", "42501"))


def is_away(error: BaseException) -> bool:
    """Whether nobody's request can be written now, by this connection at least."""
    return is_connection_loss(error) or is_unwritable(error)


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction can succeed if it is simply run again.

    It may after an internal error (XX000): a node of Citus that passes work on to another has no
    better word for losing it. Whatever fails there, a COMMIT too, is rolled back.
    """
    return is_away(error) or isinstance(
        error,
        errors.SerializationFailure
        | errors.DeadlockDetected
        | errors.InvalidSqlStatementName
        | errors.InternalError_,
    )


def is_temporary(error: BaseException) -> bool:
    """Whether a client that sends the same request again later can expect it to work."""
    return is_transient(error) or isinstance(error, errors.QueryCanceled | errors.LockNotAvailable)


def temporary_failure(error: BaseException) -> IngestError:
    """The answer to a client for an error that :func:`is_temporary`."""
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return unavailable("The service's storage is too busy. Nothing was written; retry shortly.")
    if is_unwritable(error):
        return unavailable(
            "The service's storage takes no writes right now. Nothing was written; retry shortly."
        )
    return database_away()


def database_away() -> IngestError:
    """The answer to a client while the database cannot be reached."""
    return unavailable("The service cannot reach its storage right now. Retry shortly.")
