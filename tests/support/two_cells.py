"""A second cell for the tests' organizations, which live in the two by turns (tests/matrix.py).

``WEPEOPLE_TEST_CELLS`` says where it is: ``schemas``, in the home database, or ``servers``, on a
server of its own. Without it there is the home cell alone.
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
from core.postgres.directory import HOME, find_cell
from service.postgres.embedded import EmbeddedPostgres
from tests.support.databases import new_database

SECOND: Final = "second"  # the name of the cell
WHERE: Final = os.environ.get("WEPEOPLE_TEST_CELLS")
assert WHERE in (None, "schemas", "servers"), f"WEPEOPLE_TEST_CELLS={WHERE}"

_STATEMENT_SECONDS: Final = 60
_turns: Final = itertools.cycle((SECOND, HOME))


@contextlib.contextmanager
def second_cell(template_url: str, folder: Path) -> Iterator[None]:
    """Give a template the second cell, if there is to be one; its server runs in the block."""
    if WHERE is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        conninfo = None
        if WHERE == "servers":
            lease = stack.enter_context(EmbeddedPostgres(folder / SECOND).acquire())
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
    """As :func:`new_database`, with a copy of the second cell's own database if it has one."""
    with new_database(postgres, name, template) as url:
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


@contextlib.asynccontextmanager
async def cell_session(database_url: str, name: str | None = None) -> AsyncIterator[CellSession]:
    """A session of the cell of that name, or of the next one for an organization."""
    async with (
        await sessions.connect(database_url) as home,
        CellSessions(home, database_url, _STATEMENT_SECONDS) as cells,
    ):
        if name is None:
            name = next(_turns) if WHERE and await find_cell(home, SECOND) else HOME
        yield await cells.named(name)
