"""Ingest with and without events stored, in turn; and what a steady load meets at a drop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from psycopg.errors import LockNotAvailable

from core.postgres import partitions
from service.bench.display import Display
from service.bench.load import WARM_UP_SECONDS, HttpLoad, Load, StreamLoad
from service.bench.report import Line, report
from service.bench.rows import EVENTS_PATH, Foreign, Measurement, Row, Stage
from service.bench.run import run
from service.bench.sample import json_batch
from tests.growth.fill import MONTHS
from tests.growth.sides import Side
from tests.support.database import connect

BATCH: Final = 500
HTTP_CONNECTIONS: Final = 8
STEADY_BATCH: Final = 20
STEADY_REQUESTS_A_SECOND: Final = 100.0
STEADY_CONNECTIONS: Final = 32
RETENTION_MONTHS: Final = MONTHS - 2  # what ends is the first month
DROP_TRIES: Final = 30
DROP_PAUSE_SECONDS: Final = 0.2
READ_PAUSE_SECONDS: Final = 0.002

_MONTHS: Final = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass"


def _posts(side: Side, batch: int, connections: int, rate: float | None = None) -> HttpLoad:
    headers = {"Authorization": f"Bearer {side.key}", "Content-Type": "application/json"}
    body = json_batch(batch).decode()
    return HttpLoad(side.process.url + EVENTS_PATH, headers, body, batch, connections, rate)


def _row(side: Side, name: str, make: Callable[[Side], Load], by: Side | None = None) -> Row:
    return Row(
        f"{name}_{side.name}",
        f"{name}, {side.name}",
        Foreign(lambda: make(side), side.service, side.database),
        yardstick=None if by is None else f"{name}_{by.name}",
    )


async def in_turn(empty: Side, filled: Side, seconds: float, rounds: int) -> list[Line]:
    """Both loads on both sides, in two pairs a round; the ratios are to the empty side."""
    loads: dict[str, Callable[[Side], Load]] = {
        "HTTP": lambda side: _posts(side, BATCH, HTTP_CONNECTIONS),
        "stream": lambda side: StreamLoad(side.process.grpc, False, side.key, BATCH, 1),
    }
    measurements = []
    for name, make in loads.items():
        pair = [_row(empty, name, make), _row(filled, name, make, empty)]
        # Each is the first as often as the second: what a load leaves to do disturbs the next one.
        measurements += [Measurement((row,)) for row in (*pair, *reversed(pair))]
    stage = Stage(measurements)
    return await _measure(stage, seconds, rounds)


async def _measure(stage: Stage, seconds: float, rounds: int) -> list[Line]:
    display = Display()
    try:
        findings = await run([stage], None, seconds=seconds, rounds=rounds, display=display)
    finally:
        display.close()
    return report(findings, {}, {}).measurements


@dataclass(frozen=True)
class Dropped:
    """The end of a month's retention beside a steady load.

    ``gone_seconds``: until a reader saw that the month was no more. ``seconds``: with the removal
    of its files, for which nobody waits. ``tries``: with those that found the table in use.
    ``locked_ms``: the longest that a reader waited for the table. ``longest_ms``: the longest
    request of the load; ``usual_ms``: the same without a drop.
    """

    partitions: list[str]
    gone_seconds: float
    seconds: float
    tries: int
    locked_ms: float
    usual_ms: float
    longest_ms: float
    unsent: int


async def drop(filled: Side, seconds: float) -> Dropped:
    """Drop the first month beside a steady load, as maintenance does."""

    def steady(side: Side) -> Load:
        return _posts(side, STEADY_BATCH, STEADY_CONNECTIONS, STEADY_REQUESTS_A_SECOND)

    stage = Stage([Measurement((_row(filled, "steady", steady),))])
    usual = (await _measure(stage, seconds, 1))[0]
    async with asyncio.TaskGroup() as group:
        measuring = group.create_task(_measure(stage, seconds, 1))
        await asyncio.sleep(WARM_UP_SECONDS + seconds / 2)
        dropped = asyncio.Event()
        reading = group.create_task(_read_until(dropped, filled.database_url))
        try:
            names, began, took, tries = await _drop(filled.database_url)
        finally:
            dropped.set()
    line = measuring.result()[0]
    (locked_ms, gone_at), longest_ms = reading.result(), line.latency_ms.max
    usual_ms = usual.latency_ms.max
    gone_seconds = round(gone_at - began, 3)
    return Dropped(names, gone_seconds, took, tries, locked_ms, usual_ms, longest_ms, line.unsent)


async def _read_until(dropped: asyncio.Event, database_url: str) -> tuple[float, float]:
    """Read nothing again and again, which waits for a lock of the table alone, until the end.

    Returns the longest time that it took, in milliseconds, and when a month was seen to be gone, in
    monotonic seconds.
    """
    longest, gone_at, months, is_last = 0.0, 0.0, 0, False
    async with await connect(database_url) as db:
        while not is_last:
            is_last, began = dropped.is_set(), time.monotonic()
            await db.execute("SELECT FROM events LIMIT 0")
            longest = max(longest, time.monotonic() - began)
            row = await (await db.execute(_MONTHS)).fetchone()
            assert row is not None
            if row[0] < months and not gone_at:
                gone_at = time.monotonic()
            months = row[0]
            await asyncio.sleep(READ_PAUSE_SECONDS)
    return round(longest * 1_000, 1), gone_at or time.monotonic()


async def _drop(database_url: str) -> tuple[list[str], float, float, int]:
    async with await connect(database_url) as db:
        for tries in range(1, DROP_TRIES + 1):
            began = time.monotonic()
            now_us = await partitions.server_now_us(db)
            try:
                names = await partitions.drop_expired(db, now_us, RETENTION_MONTHS)
            except LockNotAvailable:
                await asyncio.sleep(DROP_PAUSE_SECONDS)
            else:
                return names, began, time.monotonic() - began, tries
    raise TimeoutError(f"the table was locked in each of {DROP_TRIES} tries")
