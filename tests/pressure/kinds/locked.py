"""One organization's data are locked by a foreign transaction; the others must not feel it."""

from __future__ import annotations

import asyncio

import psycopg

from tests.pressure.kinds.streams import send_streams
from tests.pressure.pressure import LOCKED_DATA, Tally, Target, pressure
from tests.pressure.wire import EVENTS, batch
from tests.support.raw_http import ask, post


async def _locked(target: Target, tally: Tally, streams: int) -> None:
    host, port = target.http
    first = await ask(f"http://{host}:{port}", post(target.key, batch("first", 1), EVENTS))
    assert first.status == 202  # now there is a row to lock
    async with (
        await psycopg.AsyncConnection.connect(target.database_url) as db,
        db.transaction(),
    ):
        cursor = await db.execute(
            "UPDATE quota_usage SET used = used WHERE organization_id = %s", (target.organization,)
        )
        assert cursor.rowcount == 1
        async with asyncio.TaskGroup() as group:
            group.create_task(send_streams(target, tally, streams, 500))


@pressure(bounds=LOCKED_DATA)
async def locked_row_8_streams(target: Target, tally: Tally) -> None:
    """An organization's quota row is locked, and 8 of its streams send batches of 500."""
    await _locked(target, tally, 8)


@pressure(bounds=LOCKED_DATA)
async def locked_row_64_streams(target: Target, tally: Tally) -> None:
    """An organization's quota row is locked, and 64 of its streams send batches of 500."""
    await _locked(target, tally, 64)
