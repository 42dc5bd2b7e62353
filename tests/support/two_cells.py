"""A second cell for the tests' organizations (tests/matrix.py).

``WEPEOPLE_TEST_CELLS`` says where it is: ``schemas``, in the home database, ``servers``, on a
server of its own, or ``citus``, on the cluster of ``WEPEOPLE_TEST_CITUS``. On Citus every
organization is in it, else they live in the two by turns. Without it there is the home cell alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from core.admin.cell_sessions import CellSession, CellSessions
from core.admin.cells import add, new_record
from core.clock import Clock
from core.postgres import sessions
from core.postgres.directory import HOME, CellRecord, add_cell, find_cell
from core.timestamps import to_datetime
from tests.support import citus
from tests.support.databases import new_database
from tests.support.unsynced_postgres import UnsyncedPostgres

SECOND: Final = "second"  # the name of the cell; on Citus it is that of its home database
WHERE: Final = os.environ.get("WEPEOPLE_TEST_CELLS")
assert WHERE in (None, "schemas", "servers", "citus"), f"WEPEOPLE_TEST_CELLS={WHERE}"
assert WHERE != "citus" or os.environ.get(citus.VARIABLE), f"{citus.VARIABLE} is not set"

# The cell of an organization whose test takes the home database away; None: that whose turn it is.
IN_HOME_DATABASE: Final = None if WHERE == "schemas" else HOME

_STATEMENT_SECONDS: Final = 60
_turns: Final = itertools.cycle((True,) if WHERE == "citus" else (True, False))


@contextlib.contextmanager
def second_cell(template_url: str, folder: Path) -> Iterator[None]:
    """Give a template the second cell, if copies can have it; its server runs in the block."""
    if WHERE in (None, "citus"):
        yield
        return
    with contextlib.ExitStack() as stack:
        conninfo = None
        if WHERE == "servers":
            lease = stack.enter_context(UnsyncedPostgres(folder / SECOND).acquire())
            name = str(conninfo_to_dict(template_url)["dbname"])
            conninfo = stack.enter_context(new_database(lease.conninfo, name))
        asyncio.run(_add(template_url, conninfo))
        yield


async def _add(template_url: str, conninfo: str | None) -> None:
    async with await sessions.connect(template_url) as home:
        record = new_record(SECOND, conninfo, is_citus=False)
        await add(home, template_url, record, Clock().now_us())


@contextlib.contextmanager
def copied_database(postgres: str, name: str, template: str) -> Iterator[str]:
    """As :func:`new_database`, with a second cell of its own if the template has none in it."""
    with new_database(postgres, name, template) as url:
        if WHERE == "citus":
            now_us = Clock().now_us()
            with citus.cell(now_us, name) as cell:
                asyncio.run(_enter(url, cell, now_us))
                yield url
            return
        if WHERE != "servers":
            yield url
            return
        with psycopg.connect(url, autocommit=True) as home:
            row = home.execute("SELECT conninfo FROM cells WHERE name = %s", (SECOND,)).fetchone()
            assert row is not None
            with new_database(row[0], name, template) as second_url:
                update = "UPDATE cells SET conninfo = %s WHERE name = %s"
                home.execute(update, (second_url, SECOND))
                home.close()
                yield url


async def _enter(database_url: str, cell: CellRecord, now_us: int) -> None:
    async with await sessions.connect(database_url) as home:
        assert await add_cell(home, cell, to_datetime(now_us))


@contextlib.asynccontextmanager
async def cell_session(database_url: str, name: str | None = None) -> AsyncIterator[CellSession]:
    """A session of the cell of that name, or of the next one for an organization."""
    async with (
        await sessions.connect(database_url) as home,
        CellSessions(home, database_url, _STATEMENT_SECONDS) as cells,
    ):
        if name is None:
            second = home.info.dbname if WHERE == "citus" else SECOND
            has_second = WHERE is not None and await find_cell(home, second) is not None
            name = second if has_second and next(_turns) else HOME
        yield await cells.named(name)
