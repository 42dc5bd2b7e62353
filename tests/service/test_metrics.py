"""The metrics page: one page for all server processes, and counts that outlive a process."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from prometheus_client import values

from core.counters import Counters
from service import metrics
from service.metrics import FOLDER_VARIABLE, MetricsPage, count_in_files
from service.processes.shared_state import SharedState


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of counters; afterwards counters are kept in memory again."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv(FOLDER_VARIABLE, os.fspath(tmp_path))
    return tmp_path


def counters_of(folder: Path, slot: int) -> Counters:
    """The counters of a process that begins in a slot."""
    count_in_files(folder, slot)
    return Counters()


def count(counters: Counters) -> None:
    """Do some of everything."""
    counters.accept(5)
    counters.waiting(7)
    counters.transaction(5, 0.004, committed=True)
    counters.request("http", "ping", "no such code", 0.1)


def test_a_process_that_replaces_another_counts_on_and_begins_with_no_queue(folder: Path) -> None:
    state = SharedState(4)
    count(counters_of(folder, 1))
    state.count_restart(1)
    replacement = counters_of(folder, 1)
    other = counters_of(folder, 3)
    page = MetricsPage(state, other)
    assert "wepeople_journal_waiting_requests 0.0" in page.render().decode().splitlines()
    count(replacement)
    other.accept(1)
    lines = page.render().decode().splitlines()
    for line in (
        "wepeople_events_accepted_total 11.0",
        "wepeople_journal_waiting_requests 7.0",
        'wepeople_journal_commit_seconds_bucket{le="0.0025"} 0.0',
        'wepeople_journal_commit_seconds_bucket{le="0.005"} 2.0',
        'wepeople_journal_commit_seconds_bucket{le="+Inf"} 2.0',
        "wepeople_journal_commit_seconds_count 2.0",
        'wepeople_requests_total{code="other",endpoint="ping",protocol="http"} 2.0',
        "wepeople_server_process_restarts_total 1.0",
        "wepeople_server_processes 4.0",
    ):
        assert line in lines
    assert {file.stem.rpartition("_")[2] for file in folder.glob("*.db")} == {"1", "3"}


def test_the_page_names_the_release_and_measures_every_process() -> None:
    state = SharedState(3)
    state.set_process_id(0, os.getpid())
    state.set_process_id(1, os.getppid())
    page = MetricsPage(state, Counters()).render().decode()
    release = version("wepeople-ingest")
    assert (
        f'wepeople_build_info{{python="{platform.python_version()}",version="{release}"}} 1.0'
        in page
    )
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "start_time_seconds"):
        series = re.findall(rf'^process_{name}{{process="(\d)"}} ', page, re.MULTILINE)
        assert series == ["0", "1"]


def test_a_process_that_has_ended_is_not_measured() -> None:
    state = SharedState(1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    state.set_process_id(0, ended.pid)
    assert "\nprocess_" not in MetricsPage(state, Counters()).render().decode()


def test_a_cell_is_away_if_one_process_says_so(folder: Path) -> None:
    first = counters_of(folder, 1)
    first.cell_away("west", away=True)
    second = counters_of(folder, 2)
    second.cell_away("west", away=False)
    page = MetricsPage(SharedState(2), second)
    assert 'wepeople_cell_away{cell="west"} 1.0' in page.render().decode().splitlines()
    first.cell_away("west", away=False)
    assert 'wepeople_cell_away{cell="west"} 0.0' in page.render().decode().splitlines()


def test_a_single_process_keeps_its_counts_in_memory() -> None:
    counters = Counters()
    count(counters)
    lines = MetricsPage(SharedState.of_one(), counters).render().decode().splitlines()
    assert "wepeople_events_accepted_total 5.0" in lines
    assert 'wepeople_events_rejected_total{code="invalid_body"} 0.0' in lines
    assert "wepeople_server_processes_ready 1.0" in lines
    assert not any("_created" in line for line in lines)


@pytest.mark.anyio
async def test_all_who_wait_share_a_rendering_that_is_newer_than_their_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "RENDER_SECONDS", 0.1)
    counters = Counters()
    rendered: list[float] = []

    class Timed(MetricsPage):
        def render(self) -> bytes:
            """Note when."""
            rendered.append(asyncio.get_running_loop().time())
            return super().render()

    page = Timed(SharedState.of_one(), counters)
    for count in (1, 2):
        counters.accept(1)
        waiting = [asyncio.create_task(page.renew()) for _ in range(100)]
        gone = waiting.pop()
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(*waiting)
        assert len(rendered) == count
        assert f"\nwepeople_events_accepted_total {count}.0\n" in page.latest.decode()
    assert rendered[1] - rendered[0] >= 0.09  # the loop's clock is coarse


@pytest.mark.anyio
async def test_a_rendering_that_fails_does_so_for_those_who_wait_and_not_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "RENDER_SECONDS", 0.0)
    page = MetricsPage(SharedState.of_one(), Counters())

    def fail(_: MetricsPage) -> bytes:
        raise FileNotFoundError

    with monkeypatch.context() as broken:
        broken.setattr(MetricsPage, "render", fail)
        ended = await asyncio.gather(page.renew(), page.renew(), return_exceptions=True)
    assert [type(error) for error in ended] == [FileNotFoundError] * 2
    await page.renew()
    assert page.latest
