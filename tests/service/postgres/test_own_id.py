"""The user id of a cluster's own: chosen once, shared with nobody, and proof against strangers."""

import contextlib
import json
import logging
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service.postgres import own_id
from service.postgres.account import Account, idle_account, is_former_owner
from service.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError, installed
from service.postgres.home import DATABASE, SUPERUSER
from service.postgres.own_id import choose_id, has_name, ids_of_processes, is_own_id
from service.postgres.ownership import move_files
from tests.service.postgres.lease_holder import (
    ONLY_PROC,
    ONLY_ROOT,
    SEARCH_PATH,
    WAIT_SECONDS,
    acquire,
    end,
    execute,
    parent,
    postmaster,
)

pytestmark = [ONLY_ROOT, ONLY_PROC]


def nobody_uid() -> int:
    return pwd.getpwnam("nobody").pw_uid


def as_user(uid: int, work: Callable[[], object]) -> Any:
    """The result of work in a process of that user."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            Account("", uid, uid).become()
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as result:
        return json.loads(result.read())


def failure_to_connect(folder: object) -> str | None:
    """The reason why this process is not superuser by a socket in a folder; None if it is."""
    try:
        psycopg.connect(host=str(folder), user=SUPERUSER, dbname=DATABASE).close()
    except psycopg.Error as error:
        return str(error)
    return None


def ways_in(home: Path, *processes: int) -> list[str]:
    """The ways into the database that a stranger finds, past closed folders by /proc."""
    folders = [os.fspath(home)]
    for pid in processes:
        folders += [f"/proc/{pid}/cwd", f"/proc/{pid}/cwd/..", f"/proc/{pid}/root{home}"]
        folders += [f"/proc/{pid}/fd/{number}" for number in range(20)]
    found = [folder for folder in folders if failure_to_connect(folder) is None]
    for folder in folders:
        with contextlib.suppress(OSError):
            found += [f"{folder}/{name}" for name in os.listdir(folder)]
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{folder}/keeper.sock")
            found.append(f"{folder}/keeper.sock")
    return found


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


def test_an_id_is_one_that_no_account_and_no_process_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = choose_id()
    assert chosen is not None
    assert is_own_id(chosen)
    assert not has_name(chosen)
    free = own_id.OWN_IDS[0]
    monkeypatch.setattr(own_id, "SMALL_OWN_IDS", range(free, free + 1))
    monkeypatch.setattr(own_id, "OWN_IDS", range(free, free + 1))
    assert choose_id() == free
    with subprocess.Popen(["/bin/sleep", "60"], user=free) as other:
        assert free in ids_of_processes()
        assert choose_id() is None
        other.kill()
    assert choose_id() == free
    lent = tmp_path / "subuid"
    lent.write_text(f"# comment\nsomeone:{free - 10}:65536\n")
    monkeypatch.setattr(own_id, "SUBORDINATE_IDS", (lent,))
    assert choose_id() is None
    monkeypatch.setattr(own_id, "SUBORDINATE_IDS", ())
    monkeypatch.setattr(own_id, "has_name", lambda uid: uid == free)
    assert choose_id() is None


def test_the_id_is_kept_with_the_cluster_and_of_no_other_user(data_dir: Path) -> None:
    home = data_dir / "postgres"
    with acquire(data_dir):
        first = home.stat().st_uid
        pid = postmaster(data_dir)
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{first}\t{first}\t{first}\t{first}\n" in status
        assert "Groups:\t \n" in status
    end(data_dir)
    with acquire(data_dir):
        assert home.stat().st_uid == first
        assert owners(home) == {first}


def test_strangers_do_not_get_in_by_any_path_or_process(data_dir: Path) -> None:
    home = data_dir / "postgres"
    with acquire(data_dir) as lease:
        for folder in (data_dir.parent, data_dir):
            folder.chmod(0o755)
        processes = (postmaster(data_dir), parent(postmaster(data_dir)))
        assert ways_in(home, *processes) != []  # root's own
        assert as_user(nobody_uid(), lambda: ways_in(home, *processes)) == []
        assert execute(lease, "SELECT 1") == [(1,)]
        # Even a process of the id itself is no superuser: the rules admit root alone.
        reason = as_user(home.stat().st_uid, lambda: failure_to_connect(home))
        assert "Peer authentication failed" in reason


def test_a_cluster_that_nobody_owns_is_moved_with_its_data(data_dir: Path) -> None:
    home = data_dir / "postgres"
    with acquire(data_dir) as lease:
        execute(lease, "CREATE TABLE kept AS SELECT 42 AS answer")
    end(data_dir)
    nobody = nobody_uid()
    subprocess.run(["/bin/chown", "-R", f"{nobody}:{nobody}", home], check=True)
    with acquire(data_dir) as lease:
        (owner,) = owners(home)
        assert is_own_id(owner)
        assert execute(lease, "SELECT answer FROM kept") == [(42,)]


def test_a_move_that_was_interrupted_goes_on(data_dir: Path) -> None:
    home = data_dir / "postgres"
    os.chown(home, 0, 0)
    os.chown(home / "pgdata-18", nobody_uid(), nobody_uid())
    with acquire(data_dir) as lease:
        assert execute(lease, "SELECT 1") == [(1,)]
        assert len(owners(home)) == 1


def test_a_move_gives_away_no_file_that_has_another_name_or_owner(tmp_path: Path) -> None:
    home, secret = tmp_path / "home", tmp_path / "secret"
    home.mkdir()
    secret.write_text("root's")
    to = Account("user id 2100000000", 2_100_000_000, 2_100_000_000)
    home_fd = os.open(home, os.O_RDONLY)
    try:
        (home / "link").symlink_to(secret)
        move_files(home_fd, to, is_former_owner)
        assert secret.stat().st_uid == 0
        for name in ("keeper.lock", "pg_hba.conf"):
            (home / name).hardlink_to(secret)
            with pytest.raises(EmbeddedPostgresError, match=rf"'{name}'.*has 2 names"):
                move_files(home_fd, to, is_former_owner)
            assert (secret.stat().st_uid, home.stat().st_uid) == (0, 0)
            (home / name).unlink()
        (home / "folder").mkdir()
        with pytest.raises(EmbeddedPostgresError, match=r"'folder'.*user id 0"):
            move_files(home_fd, to, is_former_owner)
    finally:
        os.close(home_fd)


def run_keeper(data_dir: Path, change: str) -> None:
    """Start a keeper in whose modules something is not as usual."""
    program = (
        "from service.postgres import account as a, keeper as k, opening as o;"
        + change
        + ";k.main()"
    )
    subprocess.run(
        [sys.executable, "-c", program, data_dir.resolve(), installed()],
        env={**os.environ, "PYTHONPATH": SEARCH_PATH},
        timeout=WAIT_SECONDS,
        check=True,
    )


def test_without_user_namespaces_it_is_made_by_an_idle_user_and_moved(new_dir: Path) -> None:
    assert idle_account().uid not in ids_of_processes()
    run_keeper(new_dir, "o.can_get_name = lambda *_: False")
    with acquire(new_dir) as lease:
        (owner,) = owners(new_dir / "postgres")
        assert is_own_id(owner)
        assert execute(lease, "SELECT current_database()") == [("wepeople",)]


def test_without_an_id_of_its_own_it_runs_and_says_so(
    new_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_keeper(new_dir, "a.choose_id = lambda: None")
    with caplog.at_level(logging.WARNING), acquire(new_dir) as lease:
        assert execute(lease, "SELECT 1") == [(1,)]
        assert (new_dir / "postgres").stat().st_uid == nobody_uid()
    assert "runs as the user 'nobody', whom others may share" in caplog.text
    assert "WARNING" in (new_dir / "postgres/keeper.log").read_text()


def test_the_keeper_hands_out_no_connection_parameters(new_dir: Path) -> None:
    """A keeper of an ordinary user's making, which root's command asks."""
    home = new_dir / "postgres"
    home.mkdir(parents=True)
    os.chown(home, nobody_uid(), nobody_uid())
    with socket.socket(socket.AF_UNIX) as listener:
        serve_as(nobody_uid(), listener, home)
        answer = {"ready": True, "conninfo": {"host": "/elsewhere", "sslkeylogfile": "/root/x"}}
        said = json.dumps(answer).encode() + b"\n"
        lease, conninfo = ask_keeper(listener, new_dir, said)
        given = psycopg.conninfo.conninfo_to_dict(conninfo)
        assert given == {
            "host": os.fspath(home),
            "port": "5432",
            "user": SUPERUSER,
            "dbname": DATABASE,
            "require_auth": "none",
        }
        lease.close()
        error = json.dumps({"error": "\x1b[2J bad"}).encode() + b"\n"
        with pytest.raises(EmbeddedPostgresError, match=r"^\?\[2J bad"):
            ask_keeper(listener, new_dir, error)


def test_a_keeper_of_another_user_than_the_owner_is_not_asked(new_dir: Path) -> None:
    home = new_dir / "postgres"
    home.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        serve_as(nobody_uid(), listener, home)
        with pytest.raises(EmbeddedPostgresError, match="answers for the PostgreSQL"):
            ask_keeper(listener, new_dir, b"")


def serve_as(uid: int, listener: socket.socket, home: Path) -> None:
    """Listen on the keeper's socket; the kernel takes the listener for the user's."""
    listener.bind(os.fspath(home / "keeper.sock"))
    os.seteuid(uid)
    try:
        listener.listen()
    finally:
        os.seteuid(0)


def ask_keeper(listener: socket.socket, data_dir: Path, said: bytes) -> tuple[Any, str]:
    """The lease and the connection string of a process to which a keeper says that."""
    pid = os.fork()
    if pid == 0:
        connection, _ = listener.accept()
        connection.sendall(said)
        signal.pause()
    try:
        lease = EmbeddedPostgres(data_dir).acquire(timeout_seconds=5)
        return lease, lease.conninfo
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
