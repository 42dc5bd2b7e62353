"""The schema of a session: known for certain, or the session is given up."""

from __future__ import annotations

import asyncio

import pytest
from psycopg.pq import TransactionStatus

from core.postgres.search_path import use_schema
from tests.support.database import connect

pytestmark = pytest.mark.anyio


async def search_path(database_url: str, *schemas: str | None) -> object:
    """What a session with a path of its own searches after it was turned to these schemas."""
    async with await connect(f"{database_url} options='-c search_path=own,public'") as db:
        for schema in schemas:
            await use_schema(db, schema)
        row = await (await db.execute("SELECT current_setting('search_path')")).fetchone()
        return row and row[0]


@pytest.mark.parametrize(
    ("schemas", "path"),
    [
        ([None], "own,public"),
        (["north"], "north"),
        (["north", "south", "south"], "south"),
        (["north", "south", None], "own,public"),
    ],
)
async def test_it_is_a_cell_s_alone_or_where_the_session_began(
    database_url: str, schemas: list[str | None], path: str
) -> None:
    assert await search_path(database_url, *schemas) == path


async def test_a_transaction_never_spans_cells(database_url: str) -> None:
    async with await connect(database_url) as db:
        await use_schema(db, "north")
        async with db.transaction():
            await db.execute("SELECT 1")
            with pytest.raises(RuntimeError, match="spans two cells"):
                await use_schema(db, "south")
        await use_schema(db, "south")


async def test_a_session_that_was_perhaps_turned_is_closed(database_url: str) -> None:
    async with await connect(database_url) as db:
        turning = asyncio.create_task(use_schema(db, "north"))
        for _ in range(1_000):
            if db.pgconn.transaction_status == TransactionStatus.ACTIVE:
                break
            await asyncio.sleep(0)
        turning.cancel()
        await asyncio.wait({turning})
        assert turning.cancelled()
        assert db.closed
