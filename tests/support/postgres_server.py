"""A PostgreSQL server of a test's own, on a port of the loopback, which can be killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from service.postgres.account import Account, idle_account, reachable_install
from service.postgres.embedded import installed
from tests.support.ports import free_port
from tests.support.waiting import wait_until

SUPERUSER: Final = "postgres"
START_SECONDS: Final = 60.0
SETTINGS: Final = {
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "max_connections": "400",
    "log_min_error_statement": "panic",
}


NO_SETTINGS: Final[Mapping[str, str]] = {}


def ordinary_account() -> Account | None:
    """The user for programs that refuse to run as root; None if this process is not root's."""
    return idle_account() if os.geteuid() == 0 else None


def run_as(account: Account | None) -> dict[str, Any]:
    """The options of :mod:`subprocess` that run a program as that user."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def kill_postmaster(pid: int) -> None:
    """SIGKILL to a server's first process and all of its others at once."""
    listing = ["ps", "-o", "pid=", "--ppid", str(pid)]
    children = subprocess.run(listing, capture_output=True, text=True, check=False).stdout
    for one in (pid, *map(int, children.split())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


class PostgresServer:
    """One server and its data folder; the binaries are the embedded ones, or those in ``binaries``.

    ``conninfo`` is a superuser's connection string.
    """

    def __init__(
        self, folder: Path, binaries: Path | None = None, settings: Mapping[str, str] = NO_SETTINGS
    ) -> None:
        self._folder = folder
        self._account = ordinary_account()
        if binaries is None:
            install = installed()
            if self._account is not None:
                install = reachable_install(install, self._account)
            binaries = install / "bin"
        self._binaries = binaries
        self._settings = {**SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_hex(16)
        self.port = free_port()

    @property
    def conninfo(self) -> str:
        """The way to its database `postgres`."""
        return make_conninfo(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=self._password,
            dbname="postgres",
        )

    @property
    def password(self) -> str:
        """Its superuser's."""
        return self._password

    @property
    def data(self) -> Path:
        """The data folder."""
        return self._folder / "data"

    def create(self, wal: Path | None = None) -> None:
        """Make the data folder; its write-ahead log is in a new folder ``wal`` if that is given."""
        self._own_folder()
        if wal is not None:
            wal.mkdir(mode=0o700)
            self._own(wal)
        password_file = self._folder / "password"
        password_file.write_text(self._password)
        self._own(password_file)
        self._run(
            "initdb",
            *("-D", os.fspath(self.data), f"--username={SUPERUSER}", "--auth=scram-sha-256"),
            *(f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C", "--no-sync"),
            *(() if wal is None else (f"--waldir={wal}",)),
        )

    def copy_of(self, primary: PostgresServer) -> None:
        """Become a standby of a server that is not running, with a copy of its data."""
        self._own_folder()
        shutil.copytree(primary.data, self.data)
        (self.data / "standby.signal").touch()
        for path in (self.data, *self.data.rglob("*")):
            self._own(path)
        self.data.chmod(0o700)
        self._password = primary._password
        self._settings["primary_conninfo"] = primary.conninfo + " application_name=standby"

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binaries / "postgres",
                    *("-D", self.data, "-p", str(self.port)),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                **run_as(self._account),
            )
        wait_until(self._answers, "PostgreSQL takes connections", seconds=START_SECONDS)

    def count(self, query: LiteralString) -> int:
        """Run a query as the superuser; returns the number of its rows."""
        with psycopg.connect(self.conninfo, autocommit=True) as db:
            return len(db.execute(query).fetchall())

    def kill(self) -> None:
        """SIGKILL to all of its processes at once."""
        if self._process is None:
            return
        kill_postmaster(self._process.pid)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """Stop it at once, in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
                self._process = None
            except subprocess.TimeoutExpired:
                self.kill()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2_000:]
        try:
            psycopg.connect(self.conninfo, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _own_folder(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._own(self._folder)

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, *arguments],
            check=True,
            capture_output=True,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            **run_as(self._account),
        )


@contextlib.contextmanager
def postgres_server(
    binaries: Path | None = None, settings: Mapping[str, str] = NO_SETTINGS
) -> Iterator[PostgresServer]:
    """A server that runs, in a folder of its own; nothing of either remains."""
    with server_folder() as folder:
        server = PostgresServer(folder / "server", binaries, settings)
        try:
            server.create()
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def server_folder() -> Iterator[Path]:
    """A folder below which every user may have one."""
    folder = Path(tempfile.mkdtemp(prefix="wp-server-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
