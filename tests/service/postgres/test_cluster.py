"""The cluster: its creation, and leftovers of an earlier one."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from service.postgres.embedded import EmbeddedPostgresError
from tests.service.postgres.lease_holder import acquire, execute, start_holder
from tests.support.waiting import wait_until


def test_a_postmaster_pid_of_some_other_process_is_no_obstacle(data_dir: Path) -> None:
    pid_file = data_dir / "postgres/pgdata-18/postmaster.pid"
    # After a crash and a reboot the process id may be that of anything its user runs.
    with subprocess.Popen(["/bin/sleep", "60"], user=pid_file.parent.stat().st_uid) as bystander:
        try:
            pid_file.write_text(f"{bystander.pid}\n/elsewhere\n0\n5432\n\n\n\nready\n")
            with acquire(data_dir) as lease:
                assert execute(lease, "SELECT 1") == [(1,)]
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_a_creation_that_was_killed_is_begun_anew(new_dir: Path) -> None:
    with start_holder(new_dir) as holder:
        home = new_dir / "postgres"
        wait_until(lambda: any(home.glob("pgdata-18.partial-*/global")), "the creation has begun")
        holder.kill()
        [partial] = home.glob("pgdata-18.partial-*")
        os.kill(int(partial.name.rpartition("-")[2]), signal.SIGKILL)  # it bears the keeper's id
        assert not (home / "pgdata-18").exists()
    with acquire(new_dir) as lease:
        assert execute(lease, "SELECT current_database()") == [("wepeople",)]
        assert not list(home.glob("*.partial-*"))


def test_a_cluster_of_another_major_version_is_refused(data_dir: Path) -> None:
    (data_dir / "postgres/pgdata-18").rename(data_dir / "postgres/pgdata-17")
    with pytest.raises(EmbeddedPostgresError, match=r"pgdata-17.*Dump it"):
        acquire(data_dir)
