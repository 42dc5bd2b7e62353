"""Bytes an event: those of its row and its index entry, and those of the write-ahead log.

Rows are stored by COPY as the journal stores them, but for organizations by turns, as they come
from many. Requests of one event go through the service, for they have an idempotency key each and
share their transaction with few others.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Json

from core import ids
from core.timestamps import to_datetime
from service.bench import sample
from tests.support.http_driver import HttpDriver
from tests.support.running_service import RunningService
from tests.support.tenant import event, make_tenant

EVENTS: Final = 200_000
TRANSACTION_EVENTS: Final = 5_000
RUN_EVENTS: Final = 20  # of one organization, before those of the next

_COPY: Final = """
COPY events (
    organization_id, app_id, worker_id, event_type, category, id,
    occurred_at, duration_seconds, metadata)
FROM STDIN (FORMAT binary)
"""
_TYPES: Final = ("uuid",) * 3 + ("text",) * 2 + ("uuid", "timestamptz", "int4", "json")

_SIZES: Final = """
SELECT sum(pg_table_size(inhrelid))::bigint, sum(pg_indexes_size(inhrelid))::bigint,
    (pg_current_wal_insert_lsn() - '0/0')::bigint
FROM pg_inherits WHERE inhparent = 'events'::regclass
"""


@dataclass(frozen=True)
class Sizes:
    """Bytes of the tables, of their indexes, and of the log since ever; or of an event."""

    table: float
    indexes: float
    wal: float

    def an_event(self, before: Sizes, events: int) -> Sizes:
        """The growth since then, for each of so many events."""
        return Sizes(
            (self.table - before.table) / events,
            (self.indexes - before.indexes) / events,
            (self.wal - before.wal) / events,
        )


async def sizes(db: AsyncConnection[Any]) -> Sizes:
    """The sizes now."""
    row = await (await db.execute(_SIZES)).fetchone()
    assert row is not None
    return Sizes(*row)


async def store(
    db: AsyncConnection[Any], organizations: int, metadata_bytes: int, events: int = EVENTS
) -> Sizes:
    """Store events of so many organizations by turns; returns the bytes of one.

    ``metadata_bytes``: of each event, as many as the load of `bench` has, or more.
    """
    await db.execute("TRUNCATE events")
    await db.execute("CHECKPOINT")
    before = await sizes(db)
    now_us = time.time_ns() // 1_000
    owners = [
        (ids.new(now_us), ids.new(now_us), [ids.new(now_us) for _ in range(sample.WORKERS)])
        for _ in range(organizations)
    ]
    for first in range(0, events, TRANSACTION_EVENTS):
        bits = ids.first_of_batch(time.time_ns() // 1_000)
        async with db.transaction(), db.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(_TYPES)
            for number in range(first, min(first + TRANSACTION_EVENTS, events)):
                organization, app, workers = owners[number // RUN_EVENTS % organizations]
                await copy.write_row(
                    (
                        organization,
                        app,
                        workers[number % sample.WORKERS],
                        sample.EVENT_TYPE,
                        sample.CATEGORY,
                        UUID(int=bits + number - first),
                        to_datetime(sample.occurred_us(number)),
                        sample.DURATION_SECONDS,
                        Json(_metadata(number, metadata_bytes), _compact),
                    )
                )
    await db.execute("VACUUM events")  # its visibility map is a part of the table
    return (await sizes(db)).an_event(before, events)


def _compact(value: object) -> str:
    """JSON as the service stores it."""
    return json.dumps(value, separators=(",", ":"))


def _metadata(number: int, size: int) -> dict[str, Any]:
    """Metadata of the load of `bench`, with a note that makes it about so long."""
    plain = {"ticket_id": f"SUP-{number}", "priority": "high", "score": 4.5}
    missing = size - len(sample.metadata(number))
    return {**plain, "note": "n" * missing} if missing > 0 else plain


async def log_of_requests(database_url: str, requests: int, connections: int) -> float:
    """Bytes of log for a request of one event with an idempotency key.

    Requests over one connection have a transaction each, those over many share them.
    """
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        client = HttpDriver(service.addresses.http)
        numbers: Iterator[int] = iter(range(requests))

        async def send() -> None:
            for number in numbers:
                events = [event(f"crm-user-{number % sample.WORKERS}")]
                reply = await client.ingest(tenant.key, events, f"request-{number}")
                assert reply.accepted

        async with await tenant.connect() as db:
            await db.execute("CHECKPOINT")
            before = await sizes(db)
            async with asyncio.TaskGroup() as group:
                for _ in range(connections):
                    group.create_task(send())
            # Each key is deleted ten minutes later, which is logged as well.
            await db.execute("DELETE FROM idempotency_keys")
            await db.execute("VACUUM idempotency_keys")
            after = await sizes(db)
        await client.close()
    return after.an_event(before, requests).wal
