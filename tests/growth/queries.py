"""The queries of operators, timed one after the other on a session as the service has it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final

from core import ids
from core.admin import snapshots, usage, worker_activity, workers
from core.admin.pages import Page
from core.admin.timeline import Follower, Selection, page
from core.postgres.sessions import Connection
from core.timestamps import from_datetime
from tests.growth.owners import TYPES, Owner

RUNS: Final = 30
PAGE: Final = 50
HALF_A_YEAR: Final = timedelta(days=182)

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
    long_ago = datetime.now(UTC) - HALF_A_YEAR

    def newest_of(owner: Owner, **filters: object) -> Query:
        return lambda db: page(db, Selection(owner.id, **filters), PAGE)  # type: ignore[arg-type]

    return {
        "timeline, newest": newest_of(large),
        "timeline, newest of the smallest": newest_of(small),
        "timeline, of an app": newest_of(large, app_id=large.apps[0]),
        "timeline, of a worker": newest_of(large, worker_id=large.workers[0].id),
        "timeline, of a worker who left": newest_of(large, worker_id=large.leaver.id),
        "timeline, of a type": newest_of(large, event_type=TYPES[2][0]),
        "timeline, of a type that came in the first months": newest_of(
            large, event_type=TYPES[-1][0]
        ),
        "timeline, of a category that none has": newest_of(large, category="design"),
        "timeline, of a day half a year ago": newest_of(large, day=long_ago.date()),
        "timeline, of a worker on that day": newest_of(
            large, worker_id=large.workers[0].id, day=long_ago.date()
        ),
        "timeline, the page before half a year ago": lambda db: page(
            db, Selection(large.id), PAGE, ids.first_at(from_datetime(long_ago))
        ),
        "usage": lambda db: usage.read(db, large.id, time.time_ns() // 1_000),
        "workers, a page": lambda db: workers.page(db, large.id, PAGE),
        "workers, all": lambda db: workers.of_organization(db, large.id),
        "worker in numbers": lambda db: worker_activity.activity(db, large.id, large.leaver.id),
        "cards, a page": lambda db: snapshots.cards_page(db, large.id, None, PAGE),
        "cards, all": lambda db: snapshots.cards(db, large.id),
        "cards of a worker": lambda db: snapshots.cards(db, large.id, large.workers[0].id),
    }


async def timed(db: Connection, owners: Sequence[Owner], runs: int = RUNS) -> list[Timed]:
    """Each query so many times."""
    found = [await _time(name, query, db, runs) for name, query in queries(owners).items()]
    follower = Follower(Selection(owners[0].id))
    found.append(await _time("follower, start", lambda db: follower.start(db, PAGE), db, 1))
    found.append(await _time("follower, poll", follower.news, db, runs))
    return found


async def _time(name: str, query: Query, db: Connection, runs: int) -> Timed:
    times, answer = [], None
    for _ in range(runs):
        began = time.perf_counter()
        answer = await query(db)
        times.append((time.perf_counter() - began) * 1_000)
    found = answer.items if isinstance(answer, Page) else answer
    rows = len(found) if isinstance(found, list) else 1
    first, p50, longest = (round(one, 2) for one in (times[0], median(times), max(times)))
    return Timed(name, first, p50, longest, rows)
