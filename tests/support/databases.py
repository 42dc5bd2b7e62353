"""Databases on the PostgreSQL of the tests; their names hold the process id of their maker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo

from tests.support.waiting import wait_until

END_SESSIONS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@contextlib.contextmanager
def new_database(
    postgres: str, name: str, template: str = "template0", encoding: str = "UTF8"
) -> Iterator[str]:
    """Create a database for the length of a block; yields its connection string.

    It is dropped in the end, with whatever connections it has then.
    """
    identifiers = sql.Identifier(name), sql.Identifier(template)
    # Another encoding than the template's needs a locale that goes with every encoding.
    locale = sql.SQL("" if encoding == "UTF8" else " LOCALE_PROVIDER libc LOCALE 'C'")
    with psycopg.connect(postgres, autocommit=True) as db:
        db.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING {}{}").format(
                *identifiers, sql.Literal(encoding), locale
            )
        )
    try:
        yield make_conninfo(postgres, dbname=name)
    finally:
        wait_until(lambda: _is_dropped(postgres, name), f"{name} is dropped")


def _is_dropped(postgres: str, name: str) -> bool:
    """Try to drop a database: a pooler may refuse a connection for a moment."""
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with (
        contextlib.suppress(psycopg.OperationalError),
        psycopg.connect(postgres, autocommit=True) as db,
    ):
        db.execute(drop)
        return True
    return False


@contextlib.asynccontextmanager
async def read_only(db: AsyncConnection[Any]) -> AsyncIterator[None]:
    """Have every session of the database that begins within the block be read-only for good."""
    name = sql.Identifier(db.info.dbname)
    await db.execute(
        sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name)
    )
    await db.execute(END_SESSIONS)
    try:
        yield
    finally:
        await db.execute(
            sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name)
        )
