"""A Citus cluster for the tests that want one.

None is started here: ``WEPEOPLE_TEST_CITUS`` is a connection string of the coordinator of one, as a
superuser, with two nodes for distributed schemas. Without it these tests are skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql

from core.postgres.citus import CitusDatabase, DatabaseAt, at_node, create_schema, owner
from core.postgres.database import Database
from core.postgres.directory import CellRecord, connect_to
from core.postgres.migrate import migrate_cell
from core.postgres.sessions import Connection, connect

VARIABLE: Final = "WEPEOPLE_TEST_CITUS"
_numbers = itertools.count(1)


def coordinator() -> str:
    """The connection string of the coordinator; skips the test if there is none."""
    conninfo = os.environ.get(VARIABLE)
    if not conninfo:
        pytest.skip(f"no Citus cluster: {VARIABLE} is not set")
    return conninfo


def query(conninfo: str, text: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows of a statement on some node, in autocommit mode."""
    with psycopg.connect(conninfo, autocommit=True) as db:
        cursor = db.execute(text.encode(), values)
        return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def cell(now_us: int, name: str | None = None) -> Iterator[CellRecord]:
    """A migrated cell on the cluster, for the length of a block; no directory has it yet."""
    conninfo = coordinator()
    name = name or f"cell_{os.getpid()}_{next(_numbers)}"
    made = CellRecord(name, conninfo, name, is_citus=True)

    async def make() -> None:
        async with await connect(conninfo) as db:
            await create_schema(db, name)
        await migrate_cell(made, conninfo, now_us)

    try:
        asyncio.run(make())
        yield made
    finally:
        drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name))
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute(drop)


def _owner(cell: CellRecord) -> tuple[str, int]:
    assert cell.conninfo is not None
    [(host, port)] = query(
        cell.conninfo,
        "SELECT nodename, nodeport FROM pg_dist_node JOIN pg_dist_placement USING (groupid) "
        "JOIN pg_dist_shard USING (shardid) WHERE logicalrelid = %s::regclass",
        f"{cell.schema}.organizations",
    )
    return host, port


async def connect_to_owner(cell: CellRecord) -> Connection:
    """A new session at the node that owns a cell, where the service works on it, too.

    It sees the locks and the sessions there; it cannot change tables.
    """
    assert cell.conninfo is not None
    async with await connect_to(cell, cell.conninfo) as db:
        found = await owner(db)
    assert found is not None, f"nobody owns {cell.schema}"
    at_owner = at_node(cell.conninfo, *found)
    return await connect_to(cell._replace(conninfo=at_owner), at_owner)


def move(cell: CellRecord) -> None:
    """Move a cell to the other node of the cluster."""
    assert cell.conninfo is not None
    [other] = query(
        cell.conninfo,
        "SELECT nodename, nodeport FROM pg_dist_node "
        "WHERE shouldhaveshards AND (nodename, nodeport) <> (%s, %s)",
        *_owner(cell),
    )
    query(cell.conninfo, "SELECT citus_schema_move(%s, %s, %s)", cell.schema, *other)


def crash(cell: CellRecord) -> None:
    """Kill a process of the node that owns a cell; all of its sessions end, and it recovers."""
    assert cell.conninfo is not None
    owner = at_node(cell.conninfo, *_owner(cell))
    [(pid,)] = query(owner, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    with contextlib.suppress(psycopg.OperationalError):
        query(owner, f"COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; kill -9 {pid}'")
        query(owner, "SELECT pg_sleep(10)")


@contextlib.asynccontextmanager
async def nodes() -> AsyncIterator[DatabaseAt]:
    """Opens the databases of nodes, one each, and closes them at the end of the block."""
    async with AsyncExitStack() as stack:
        opened: dict[str, Database] = {}

        async def database_at(conninfo: str) -> Database:
            if conninfo not in opened:
                opened[conninfo] = await stack.enter_async_context(Database(conninfo))
            return opened[conninfo]

        yield database_at


def on_citus(cell: CellRecord, database_at: DatabaseAt) -> CitusDatabase:
    """The database of a cell, which has not been located yet."""
    assert cell.conninfo is not None
    assert cell.schema is not None
    return CitusDatabase(Database(cell.conninfo), cell.schema, database_at)


def node_addresses(conninfo: str) -> Iterator[tuple[str, int]]:
    """All nodes of the cluster."""
    yield from query(conninfo, "SELECT nodename, nodeport FROM pg_dist_node")
