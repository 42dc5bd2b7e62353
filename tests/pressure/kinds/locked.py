"""One organization's data are locked by a foreign transaction; the others must not feel it."""

from __future__ import annotations

import asyncio

import grpc
import psycopg

from tests.pressure.kinds.streams import OpenStreams, send_streams
from tests.pressure.pressure import LOCKED_DATA, Tally, Target, pressure
from tests.pressure.wire import EVENTS, Connection, batch, keep_open
from tests.support.raw_http import ask, post
from tests.support.stream_client import Stream


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


@pressure(silent=True)
async def locked_producers(target: Target, tally: Tally) -> None:
    """The count of an app's producers is locked, and 256 streams open new ones."""

    def make(_: int) -> Connection:
        return OpenStreams(tally, 16, target.key, leaving=False)

    async with grpc.aio.insecure_channel(target.grpc_address) as channel:
        first = Stream(channel, target.key)
        await first.open("first")  # now there is a row to lock
        await first.close()
    async with (
        await psycopg.AsyncConnection.connect(target.database_url) as db,
        db.transaction(),
    ):
        cursor = await db.execute(
            "UPDATE producer_counts SET producers = producers WHERE organization_id = %s",
            (target.organization,),
        )
        assert cursor.rowcount == 1
        await keep_open(target.grpc, 16, make, tally)
