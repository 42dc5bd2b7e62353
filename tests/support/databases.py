"""Databases on the PostgreSQL of the tests; their names hold the process id of their maker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo


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
        with psycopg.connect(postgres, autocommit=True) as db:
            db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
