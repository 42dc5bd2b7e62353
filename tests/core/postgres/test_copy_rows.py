"""The bytes of COPY: PostgreSQL reads the rows that were packed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from psycopg import AsyncConnection, sql

from core import timestamps
from core.models import Event, Worker
from core.postgres import copy_rows
from core.rules.event_batch import CheckedEvents, check_events, check_metadata
from core.slices import at_once
from tests.support import strategies
from tests.support.strategies import CALLER, FEW_EXAMPLES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def _copy(db: AsyncConnection[Any], checked: CheckedEvents) -> None:
    tails = checked.tails
    workers = [Worker(UUID(int=index), "") for index in range(len(tails))]
    organization_id, app_id, first_id = CALLER.organization_id, CALLER.app_id, checked.first_id
    pieces = copy_rows.assemble(
        organization_id, app_id, first_id, workers, range(len(tails)), tails
    )
    async with db.cursor() as cursor, cursor.copy(copy_rows.COPY_EVENTS) as copy:
        await copy.write(copy_rows.table(pieces))


async def _copied(database_url: str, checked: CheckedEvents) -> list[tuple[Any, ...]]:
    """The rows that PostgreSQL reads from the packed bytes."""
    async with await AsyncConnection.connect(database_url) as db:
        await _copy(db, checked)
        async with db.cursor() as cursor:
            await cursor.execute(
                sql.SQL(
                    "SELECT id, worker_id, event_type, category, "
                    "(extract(epoch FROM occurred_at) * 1000000)::bigint, "
                    "duration_seconds, metadata::text FROM events ORDER BY id"
                )
            )
            found = await cursor.fetchall()
            await db.rollback()
            return found


def test_postgresql_reads_what_was_packed(database_url: str) -> None:
    @FEW_EXAMPLES
    @given(st.lists(strategies.valid_events, min_size=1, max_size=20))
    def check(events: list[Event]) -> None:
        # A month with a partition.
        received_us = timestamps.from_datetime(datetime.now(UTC))
        stored = at_once(check_metadata(events))
        checked = check_events(CALLER, events, stored, received_us)
        found = asyncio.run(_copied(database_url, checked))
        assert found == [
            (
                UUID(int=checked.first_id + index),
                UUID(int=index),
                event.event_type,
                event.category,
                received_us if event.timestamp is None else _us(event.timestamp),
                event.duration,
                metadata if metadata is None else cast("bytes", metadata).decode(),
            )
            for index, (event, metadata) in enumerate(zip(events, stored, strict=True))
        ]

    check()


def test_postgresql_reads_the_same_from_the_texts(database_url: str) -> None:
    """The columns of a tail behind the id."""
    columns = sql.SQL(
        "SELECT occurred_at, duration_seconds, metadata::text, event_type, category FROM events "
    )

    async def both(checked: CheckedEvents) -> list[list[tuple[Any, ...]]]:
        async with await AsyncConnection.connect(database_url) as db:
            await _copy(db, checked)
            copied = await (await db.execute(columns + sql.SQL("ORDER BY id"))).fetchall()
            texts = [tuple(copy_rows.texts(tail)) for tail in checked.tails]
            cast = sql.SQL("SELECT %s::timestamptz, %s::int, %s::json::text, %s::text, %s::text")
            read = [await (await db.execute(cast, row)).fetchone() for row in texts]
            await db.rollback()
            return [copied, [row for row in read if row is not None]]

    @FEW_EXAMPLES
    @given(st.lists(strategies.valid_events, min_size=1, max_size=20))
    def check(events: list[Event]) -> None:
        received_us = timestamps.from_datetime(datetime.now(UTC))
        stored = at_once(check_metadata(events))
        copied, read = asyncio.run(both(check_events(CALLER, events, stored, received_us)))
        assert copied == read

    check()


def _us(moment: str | int) -> int:
    if isinstance(moment, str):
        whole = datetime.fromisoformat(moment) - EPOCH
        return whole // timedelta(microseconds=1)
    return moment
