"""Filling a database with events of past months, by binary COPY of the rows that the journal makes.

Batches of all organizations come by turns in the order of their ids, as they do in production. A
month is one transaction into an empty partition: with ``wal_level = minimal`` nothing of it is
logged, and with FREEZE no vacuum has to read it again.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import sql

from core import ids
from core.models import Worker
from core.postgres import partitions
from core.postgres.copy_rows import COPY_EVENTS, NO_ROWS, assemble, kind, tails
from core.postgres.sessions import Connection
from core.timestamps import from_datetime, month_start
from tests.growth.owners import TYPES, Owner
from tests.support.database import connect

MONTHS: Final = 13  # with the present one: one more than a retention of eleven months keeps
FIRST_MONTHS: Final = 2  # in which there are events of leavers, and of the last type
BATCH_EVENTS: Final = 100
BLOCK_BATCHES: Final = 100
BATCH_WORKERS: Final = 5
EVENT_GAP_US: Final = 700_000
RARE: Final = 50  # one in so many batches of the first months is a leaver's
POOL: Final = 64
CONNECTIONS: Final = 3  # rows are made for one while the others are written
PROGRESS_SECONDS: Final = 10.0
TRAILER_BYTES: Final = 2  # at the end of a COPY's data

_UNBOUNDED: Final = """
SELECT set_config(name, '0', false)
FROM unnest(ARRAY['statement_timeout', 'idle_in_transaction_session_timeout']) AS name
"""


@dataclass(frozen=True)
class _Sample:
    """The members of a batch's events that repeat, as COPY takes them."""

    kinds: Sequence[bytes]
    durations: Sequence[int]
    metadata: Sequence[bytes]


def _samples() -> list[_Sample]:
    random_ = random.Random(1)
    usual = [kind(*one) for one in TYPES[:-1]]
    weights = [2**-number for number in range(len(usual))]
    return [
        _Sample(
            random_.choices(usual, weights, k=BATCH_EVENTS),
            [random_.randrange(1, 3_600) for _ in range(BATCH_EVENTS)],
            [
                b'{"ticket_id":"SUP-%06d","priority":"high","score":%d.5}'
                % (random_.randrange(1_000_000), random_.randrange(10))
                for _ in range(BATCH_EVENTS)
            ],
        )
        for _ in range(POOL)
    ]


@dataclass
class Progress:
    """The rows stored so far, told on stderr with the rate and the time left."""

    events: int
    stored: int = 0
    began: float = field(default_factory=time.monotonic)
    told: float = 0.0

    def add(self, rows: int) -> None:
        """Count rows."""
        self.stored += rows
        now = time.monotonic()
        if now - self.told >= PROGRESS_SECONDS or self.stored == self.events:
            self.told = now
            rate = self.stored / max(now - self.began, 0.001)
            left = (self.events - self.stored) / rate
            print(
                f"{self.stored:,} of {self.events:,} events, {rate:,.0f}/s, {left:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )


@dataclass(frozen=True)
class Month:
    """A month's part of the events. ``number``: 0 for the first month."""

    number: int
    begin_us: int
    end_us: int
    events: int


def months(now_us: int, events: int) -> list[Month]:
    """The months up to now, with so many events evenly over the time, in whole batches."""
    starts = [month_start(now_us)]
    while len(starts) < MONTHS:
        starts.insert(0, month_start(from_datetime(starts[0]) - 1))
    bounds = [*map(from_datetime, starts), now_us]
    parts = [
        round(events * (end - bounds[0]) / (now_us - bounds[0]) / BATCH_EVENTS) * BATCH_EVENTS
        for end in bounds[:-1]
    ] + [events]
    return [
        Month(number, bounds[number], bounds[number + 1], parts[number + 1] - parts[number])
        for number in range(MONTHS)
    ]


def blocks(month: Month, owners: Sequence[Owner]) -> Iterator[tuple[bytes, int]]:
    """The data of a COPY of each block of rows, without signature and trailer, and their number."""
    random_ = random.Random(month.number)
    samples, rare = _samples(), [kind(*TYPES[-1])] * BATCH_EVENTS
    indexes = [number % BATCH_WORKERS for number in range(BATCH_EVENTS)]
    shares = [owner.share for owner in owners]
    batches = -(-month.events // BATCH_EVENTS)
    span_us = month.end_us - month.begin_us
    for first in range(0, batches, BLOCK_BATCHES):
        count = min(BLOCK_BATCHES, batches - first)
        pieces: list[bytes] = []
        for number, owner in enumerate(random_.choices(owners, shares, k=count), first):
            rows = min(BATCH_EVENTS, month.events - number * BATCH_EVENTS)
            at_us = month.begin_us + span_us * number // batches
            sample, workers = random_.choice(samples), owner.workers
            begin = random_.randrange(len(workers) - BATCH_WORKERS + 1)
            actors: Sequence[Worker] = workers[begin : begin + BATCH_WORKERS]
            kinds = sample.kinds
            if month.number < FIRST_MONTHS and number % RARE == 0:
                actors, kinds = (owner.leaver,) * BATCH_WORKERS, rare
            first_id = ids.first_of_batch(at_us)
            packed = tails(
                first_id,
                kinds[:rows],
                range(at_us - rows * EVENT_GAP_US, at_us, EVENT_GAP_US),
                sample.durations[:rows],
                sample.metadata[:rows],
            )
            app = random_.choice(owner.apps)
            pieces += assemble(owner.id, app, first_id, actors, indexes[:rows], packed)
        yield b"".join(pieces), len(pieces) // 2


async def _fill_month(
    db: Connection, month: Month, owners: Sequence[Owner], progress: Progress
) -> None:
    name = sql.Identifier(partitions.name_at(month.begin_us))
    copy_events = sql.SQL(
        COPY_EVENTS.replace("COPY events", "COPY {}").replace("binary", "binary, FREEZE")
    )
    header, trailer = NO_ROWS[:-TRAILER_BYTES], NO_ROWS[-TRAILER_BYTES:]
    async with db.transaction(), db.cursor() as cursor:
        # Rows may be frozen, and need no log, in a table emptied by the same transaction.
        await cursor.execute(sql.SQL("TRUNCATE {}").format(name))
        async with cursor.copy(copy_events.format(name)) as copy:
            await copy.write(header)
            for data, rows in blocks(month, owners):
                await copy.write(data)
                progress.add(rows)
            await copy.write(trailer)


async def fill(database_url: str, owners: Sequence[Owner], events: int, now_us: int) -> None:
    """Store so many events of the organizations, evenly over the months up to now."""
    todo = months(now_us, events)
    progress = Progress(events)

    async def work() -> None:
        async with await connect(database_url) as db:
            await db.execute(_UNBOUNDED)
            while todo:
                await _fill_month(db, todo.pop(), owners, progress)

    async with await connect(database_url) as db:
        for month in todo:
            await partitions.ensure_partitions(db, month.begin_us)
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(work())
        await db.execute(_UNBOUNDED)
        await partitions.vacuum_and_checkpoint(db)
