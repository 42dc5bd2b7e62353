"""Databases for trials outside the test suite: an embedded PostgreSQL that ends with the run."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from service.postgres.embedded import EmbeddedPostgres


@contextlib.contextmanager
def databases() -> Iterator[Callable[[], str]]:
    """A function that makes another empty database, within the block."""
    folder = Path(tempfile.mkdtemp(prefix="wp-", dir="/tmp"))
    numbers = itertools.count(1)
    try:
        with EmbeddedPostgres(folder).acquire() as lease:

            def create() -> str:
                name = f"pressure_{next(numbers)}"
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
                with psycopg.connect(lease.conninfo, autocommit=True) as db:
                    db.execute(statement.format(sql.Identifier(name)))
                return make_conninfo(lease.conninfo, dbname=name)

            yield create
    finally:
        shutil.rmtree(folder, ignore_errors=True)
