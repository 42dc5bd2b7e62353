"""The queries of operators, timed one after the other on a session as the service has it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from core.admin import snapshots, usage, workers
from core.admin.timeline import Follower, Selection, newest
from core.postgres.sessions import Connection
from tests.growth.owners import Owner

RUNS: Final = 30
PAGE: Final = 50

Query = Callable[[Connection], Awaitable[object]]


@dataclass(frozen=True)
class Timed:
    """Milliseconds of a query: of the first run, the median, the longest; and its rows."""

    name: str
    first_ms: float
    p50_ms: float
    max_ms: float
    rows: int


def queries(owners: Sequence[Owner]) -> Mapping[str, Query]:
    """The queries by name, of the largest organization if none is named."""
    large, small = owners[0], owners[-1]

    def newest_of(owner: Owner, **filters: object) -> Query:
        return lambda db: newest(db, Selection(owner.id, **filters), PAGE)  # type: ignore[arg-type]

    return {
        "timeline, newest": newest_of(large),
        "timeline, newest of the smallest": newest_of(small),
        "timeline, of an app": newest_of(large, app_id=large.apps[0]),
        "timeline, of a worker": newest_of(large, worker_id=large.workers[0].id),
        "timeline, of a worker who left": newest_of(large, worker_id=large.leaver.id),
        "usage": lambda db: usage.read(db, large.id, time.time_ns() // 1_000),
        "workers": lambda db: workers.of_organization(db, large.id),
        "cards": lambda db: snapshots.cards(db, large.id),
        "cards of a worker": lambda db: snapshots.cards(db, large.id, large.workers[0].id),
    }


async def timed(db: Connection, owners: Sequence[Owner], runs: int = RUNS) -> list[Timed]:
    """Each query so many times."""
    found = [await _time(name, query, db, runs) for name, query in queries(owners).items()]
    follower = Follower(db, Selection(owners[0].id))
    found.append(await _time("follower, start", lambda _: follower.start(PAGE), db, 1))
    found.append(await _time("follower, poll", lambda _: follower.news(), db, runs))
    return found


async def _time(name: str, query: Query, db: Connection, runs: int) -> Timed:
    times, answer = [], None
    for _ in range(runs):
        began = time.perf_counter()
        answer = await query(db)
        times.append((time.perf_counter() - began) * 1_000)
    rows = len(answer) if isinstance(answer, list) else 1
    first, p50, longest = (round(one, 2) for one in (times[0], median(times), max(times)))
    return Timed(name, first, p50, longest, rows)
