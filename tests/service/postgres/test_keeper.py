"""The keeper: its end, the ends of PostgreSQL, and folders that it cannot keep."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import service.postgres.embedded
from service.postgres.embedded import EmbeddedPostgresError
from tests.service.postgres.lease_holder import (
    SEARCH_PATH,
    WAIT_SECONDS,
    acquire,
    execute,
    is_lost,
    parent,
    postmaster,
)
from tests.support.service_process import is_alive
from tests.support.waiting import wait_until


def test_it_stops_cleanly_soon_after_the_last_lease(data_dir: Path) -> None:
    with acquire(data_dir):
        first, keeper = postmaster(data_dir), parent(postmaster(data_dir))
    with acquire(data_dir):  # comes within the linger
        assert postmaster(data_dir) == first
    wait_until(lambda: not is_alive(first) and not is_alive(keeper), "the processes are gone")
    assert not (data_dir / "postgres/keeper.sock").exists()
    assert not (data_dir / "postgres/pgdata-18/postmaster.pid").exists()  # or it crashed


def test_a_killed_keeper_takes_postgresql_along_and_leases_notice(data_dir: Path) -> None:
    with acquire(data_dir) as lease:
        execute(lease, "CREATE TABLE kept AS SELECT 42 AS answer")
        pid = postmaster(data_dir)
        os.kill(parent(pid), signal.SIGKILL)
        assert is_lost(lease, WAIT_SECONDS)
        if sys.platform == "linux":  # elsewhere the next keeper stops it
            wait_until(lambda: not is_alive(pid), "the process is gone")
        with acquire(data_dir) as again:
            assert postmaster(data_dir) != pid
            assert not is_alive(pid)
            assert execute(again, "SELECT answer FROM kept") == [(42,)]


def test_an_orphaned_postmaster_is_stopped_by_the_next_keeper(data_dir: Path) -> None:
    # As on a system where a process cannot ask to die with its parent.
    without = (
        "from service.postgres import cluster as c, keeper as k;"
        "c.die_with_parent = lambda s: None; k.main()"
    )
    install = service.postgres.embedded.installed()
    subprocess.run(
        [sys.executable, "-c", without, data_dir.resolve(), install],
        env={**os.environ, "PYTHONPATH": SEARCH_PATH},
        timeout=WAIT_SECONDS,
        check=True,
    )
    with acquire(data_dir):
        orphan = postmaster(data_dir)
        os.kill(parent(orphan), signal.SIGKILL)
        with acquire(data_dir):
            assert not is_alive(orphan)
            assert postmaster(data_dir) != orphan
    log = (data_dir / "postgres/keeper.log").read_text()
    assert f"stopped the PostgreSQL of an earlier keeper, process {orphan}\n" in log


def is_reaped(pid: int) -> bool:
    """Whether the parent of a process has seen it end."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_killed_postmaster_is_restarted_under_the_same_lease(data_dir: Path) -> None:
    with acquire(data_dir) as lease:
        execute(lease, "CREATE TABLE kept AS SELECT 42 AS answer")
        pid = postmaster(data_dir)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_reaped(pid), "the keeper knows that it is gone")
        with acquire(data_dir) as second:  # is not told of the dead one
            assert postmaster(data_dir) != pid
            assert execute(second, "SELECT answer FROM kept") == [(42,)]
        assert not is_lost(lease)


def test_a_postgresql_that_keeps_failing_is_given_up_with_its_own_words(data_dir: Path) -> None:
    configuration = data_dir / "postgres/pgdata-18/postgresql.conf"
    configuration.write_text("no_such_setting = on\n")
    with pytest.raises(EmbeddedPostgresError, match=r"(?s)5 times.*no_such_setting"):
        acquire(data_dir)


def test_folders_that_cannot_be_used_are_named_with_the_reason(new_dir: Path) -> None:
    new_dir.mkdir()
    (new_dir / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="data/file cannot be the data folder"):
        acquire(new_dir / "file")
    (new_dir / "postgres").mkdir()
    (new_dir / "postgres").chmod(0o500)
    if os.geteuid() != 0:
        with pytest.raises(EmbeddedPostgresError, match=r"Permission denied.*choose another"):
            acquire(new_dir)
    with pytest.raises(EmbeddedPostgresError, match=r"Permission|Read-only|No such"):
        acquire(Path("/proc/wepeople"))


def test_a_keeper_told_to_terminate_lets_its_leases_finish(data_dir: Path) -> None:
    with acquire(data_dir) as lease:
        pid = postmaster(data_dir)
        os.kill(parent(pid), signal.SIGTERM)
        os.kill(parent(pid), signal.SIGINT)  # and Ctrl-C is not for it at all
        assert not is_lost(lease, 0.3)
        assert execute(lease, "SELECT 1") == [(1,)]
    wait_until(lambda: not is_alive(pid), "the process is gone")
