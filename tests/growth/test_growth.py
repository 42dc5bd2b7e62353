"""Every measurement of growth works with few events, and nothing of a run is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from core.models import Worker
from core.postgres import partitions
from core.timestamps import from_datetime
from tests.growth import fill, ingest, queries
from tests.growth.measure import measure
from tests.growth.owners import CARD_TYPES, WORKERS_OF_THE_LARGEST, Owner
from tests.growth.printing import table
from tests.support.service_process import PROJECT

pytestmark = pytest.mark.anyio

EVENTS = 20_000
WAIT_SECONDS = 60.0
NOW_US = from_datetime(datetime(2026, 11, 15, 7, tzinfo=UTC))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is empty again after the test."""
    # Its path is short: PostgreSQL's socket is below it.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)
        assert not os.listdir(name)


async def test_each_measurement_works_and_leaves_nothing(folder: Path) -> None:
    found = await measure(folder, EVENTS, seconds=0.6, rounds=1)
    assert found.events == EVENTS
    assert found.stored_bytes > EVENTS * 200
    assert [line.name for line in found.lines] == [
        *("HTTP_empty", "HTTP_filled", "stream_empty", "stream_filled")
    ]
    assert [line.ratio is None for line in found.lines] == [True, False, True, False]
    rows = {one.name: one.rows for one in found.queries}
    assert rows["timeline, newest"] == queries.PAGE
    assert rows["timeline, of a worker who left"] > 0
    assert rows["timeline, of a type that came in the first months"] > 0
    assert rows["timeline, of a category that none has"] == 0
    assert rows["timeline, the page before half a year ago"] == queries.PAGE
    assert rows["workers, all"] == WORKERS_OF_THE_LARGEST
    assert rows["cards of a worker"] == len(CARD_TYPES)
    assert rows["follower, start"] == queries.PAGE
    first_month = fill.months(_now_us(), EVENTS)[0]
    assert found.dropped.partitions == [partitions.name_at(first_month.begin_us)]
    # So little is dropped in less than the time between two requests.
    assert found.dropped.longest_ms >= 0
    assert found.dropped.locked_ms >= 0
    assert found.dropped.gone_seconds > 0
    assert set(found.memory_mib) == {"empty", "filled"}
    assert "| timeline, newest |" in table(found)
    assert found.as_json()["events"] == EVENTS


def _now_us() -> int:
    return from_datetime(datetime.now(UTC))


def test_months_have_events_by_their_length() -> None:
    found = fill.months(NOW_US, 1_000_000)
    assert len(found) == fill.MONTHS == ingest.RETENTION_MONTHS + 2
    assert sum(month.events for month in found) == 1_000_000
    assert [a.end_us for a in found[:-1]] == [b.begin_us for b in found[1:]]
    assert found[-1].end_us == NOW_US
    assert found[-1].events == pytest.approx(found[-2].events * 14.3 / 31, rel=0.01)
    assert partitions.name_at(found[0].begin_us) == "events_2025_11"


def test_rows_are_of_all_organizations_and_as_many_as_wanted() -> None:
    owners = [_owner(1, 0.9), _owner(2, 0.1)]
    month = fill.months(NOW_US, 50_050)[-1]
    made = list(fill.blocks(month, owners))
    assert sum(rows for _, rows in made) == month.events
    counts = [sum(data.count(owner.id.bytes) for data, _ in made) for owner in owners]
    assert sum(counts) == month.events
    assert counts[0] > counts[1] > 0


def _owner(number: int, share: float) -> Owner:
    people = [Worker(UUID(int=number << 100 | one), str(one)) for one in range(9)]
    return Owner(
        UUID(int=number << 120), share, (UUID(int=number),), tuple(people[:-1]), people[-1]
    )


def test_nothing_is_left_after_an_interruption(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.growth", "--events", "50000000"]
    with subprocess.Popen(
        [*command, "--folder", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'client'}"},
    ) as process:
        assert process.stderr is not None
        assert " of 50,000,000 events" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(WAIT_SECONDS) == 1, rest
    assert "Interrupted" in rest
    assert "Traceback" not in rest
