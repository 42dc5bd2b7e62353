"""The files and the processes of one embedded PostgreSQL cluster.

Standard library only: the keeper imports this module and has to be up within a blink.
Paths are relative to the cluster's home, which is the keeper's working directory: that still
works after root has become a user who may not walk through the folders above it.
"""

import ctypes
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LINUX = sys.platform == "linux"
MAJOR_VERSION = 18
HOME = "postgres"  # the folder within the data folder that is PostgreSQL's own
CLUSTER = f"pgdata-{MAJOR_VERSION}"
POSTGRES_LOG = "postgresql.log"
SUPERUSER = "wepeople"
DATABASE = "wepeople"
PORT = 5432  # only a part of the socket's name, as there is no TCP
SOCKET = f".s.PGSQL.{PORT}"
KEEPER_SOCKET = "keeper.sock"

MAX_SOCKET_PATH_BYTES = 99  # sun_path holds 104 bytes on macOS and 108 on Linux
MAX_LOG_BYTES = 10_000_000
TAIL_LINES = 12
TAIL_BYTES = 4_000
LOW_DISK_BYTES = 64_000_000  # a new cluster is 40 MB, and PostgreSQL needs 16 MB at a time
CREATE_SECONDS = 120.0
POLL_SECONDS = 0.02
# How a postmaster is ended: fast shutdown, then immediate shutdown, then no choice at all.
STOP_LADDER = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 6.0), (signal.SIGKILL, 4.0))

# Given on the command line, and so in force for clusters made by earlier releases as well.
SETTINGS = {
    "listen_addresses": "",  # the Unix socket is the only door ...
    "unix_socket_permissions": "0700",  # ... and only its owner (and root) may open it
    "port": str(PORT),  # or PGPORT and postgresql.conf would have a say
    "max_connections": "500",  # 32 workers with up to 11 each, and commands beside them
    "shared_buffers": "256MB",  # the hot part of keys and indexes; the kernel caches the rest
    "fsync": "on",  # what was acknowledged survives a power cut:
    "synchronous_commit": "on",  # these three are the promise to producers
    "full_page_writes": "on",
    # Or a commit now and then waits for 16 MB of zeros to be written, some 50 ms. No promise is in
    # them; with this a disk that is full is noticed later, and ends the same.
    "wal_init_zero": "off",
    # Or what was written of tables waits in the kernel until all of it goes to the disk at once,
    # and commits wait for that, a few hundred milliseconds.
    "backend_flush_after": "1MB",
    "max_wal_size": "4GB",  # checkpoints by the clock, not every few seconds of heavy ingest
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",  # which the keeper has pointed at postgresql.log
    "logging_collector": "off",
    "log_error_verbosity": "terse",  # DETAIL repeats the values of rows, and rows are people's
    "log_min_error_statement": "panic",  # the same goes for the text of statements
    "log_checkpoints": "off",  # routine, and the log has to stay small
}


class EmbeddedPostgresError(Exception):
    """There is no embedded PostgreSQL to be had; the message says why and what to do."""


def socket_folder(home: Path) -> Path:
    """Where the sockets of the cluster in `home` are: there, or in a private folder under /tmp.

    The latter when the path would be too long for a socket, or holds a comma, at which libpq
    splits host names. It is /tmp and not TMPDIR because every process must find the same one.
    """
    path = os.fsencode(home / SOCKET)
    if len(path) <= MAX_SOCKET_PATH_BYTES and b"," not in path:
        return home
    name = f"wepeople-postgres-{hashlib.sha256(path).hexdigest()[:20]}"
    return Path("/tmp", name)  # noqa: S108 -- `verify_private` sees to it that it is safe


def verify_private(folder: Path, owner_uid: int) -> None:
    """Refuse a socket folder that someone else has put there or may write to."""
    found = folder.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != owner_uid
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        raise EmbeddedPostgresError(
            f"{folder} should be a folder of user id {owner_uid} which nobody else may enter, "
            "and it is not. Remove it, or choose a data folder with a shorter path."
        )


def keep_log_small(path: str) -> None:
    """Set what is in a log aside as `*.1` once it has outgrown MAX_LOG_BYTES, dropping the last.

    It is emptied, not renamed: those who append to it keep it open. Without room it stays as it is.
    """
    with suppress(OSError):
        if Path(path).stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(path, f"{path}.1")
            os.truncate(path, 0)


def tail(path: str | Path) -> str:
    """The last lines of a log; empty if there is none, or it is not ours to read."""
    try:
        with Path(path).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
    except OSError:
        return ""


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """What a child runs before exec so that it never outlives this process, where it can be had.

    Linux sends the signal whatever ended the parent. Elsewhere there is no such thing, and the
    next keeper stops what it finds (`Cluster.stop_predecessor`).
    """
    if not LINUX:
        return None
    prctl, set_parent_death_signal, parent = ctypes.CDLL(None).prctl, 1, os.getpid()

    def before_exec() -> None:
        prctl(set_parent_death_signal, int(death_signal))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return before_exec


class Cluster:
    """One cluster below the working directory, run by the binaries in `install`.

    `home` and `sockets` are paths as the PostgreSQL processes are to see them, which inherit
    `pass_fds`; `sockets_here` is the socket folder as seen by this process.
    """

    def __init__(
        self, install: Path, home: str, sockets: str, sockets_here: str, pass_fds: tuple[int, ...]
    ) -> None:
        self._bin = install / "bin"
        self._home = home
        self._sockets = sockets
        self.sockets_here = sockets_here
        self._pass_fds = pass_fds

    def exists(self) -> bool:
        """Whether there is a cluster. One of another major version is refused, not ignored."""
        if Path(CLUSTER).is_dir():
            return True
        others = sorted({path.name for path in Path().glob("pgdata-*") if not path.suffix})
        if others:
            raise EmbeddedPostgresError(
                f"the data folder holds {', '.join(others)}, made by another major version of "
                f"PostgreSQL; this release runs {MAJOR_VERSION}. Dump it with the release that "
                "made it and restore the dump here, or choose another data folder."
            )
        return False

    def create(self, meanwhile: Callable[[float], None]) -> None:
        """Make the cluster and its database, all or nothing.

        It is made under another name and renamed when it is complete and on disk. Whatever
        an earlier, killed attempt has left behind is removed.
        """
        _remove_partial()
        try:
            self._create(meanwhile)
        finally:  # again, as a process of a killed initdb may have been writing still
            _remove_partial()

    def _create(self, meanwhile: Callable[[float], None]) -> None:
        partial = Path(f"{CLUSTER}.partial-{os.getpid()}")
        partial.mkdir(mode=0o700)
        folder = f"{self._home}/{partial}"
        # initdb flushes everything to disk itself; the locale must not come from whoever
        # happened to run the first command.
        initdb = ["initdb", "-D", folder, f"--username={SUPERUSER}", "--auth=trust"]
        encoding = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        self._finish([*initdb, *encoding, "--locale=C", "--no-instructions"], b"", meanwhile)
        self._finish(
            ["postgres", "--single", "-D", folder, "-c", "exit_on_error=on", "postgres"],
            f"CREATE DATABASE {DATABASE};\n".encode(),
            meanwhile,
        )
        partial.rename(CLUSTER)
        here = os.open(".", os.O_RDONLY)
        os.fsync(here)
        os.close(here)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the postmaster. It is of use once `is_ready`."""
        # The keeper's lock says that these can only be leftovers. PostgreSQL itself would take
        # the process id in the lock file for a rival, if some other process has it by now.
        for leftover in (SOCKET, f"{SOCKET}.lock"):
            Path(self.sockets_here, leftover).unlink(missing_ok=True)
        # Quoted, because the setting is a list with commas in between.
        sockets = '"' + self._sockets.replace('"', '""') + '"'
        settings = {**SETTINGS, "unix_socket_directories": sockets}
        options = [part for name in settings for part in ("-c", f"{name}={settings[name]}")]
        command = ["postgres", "-D", f"{self._home}/{CLUSTER}", *options]
        return self._spawn(command, subprocess.DEVNULL, die_with_parent(signal.SIGQUIT))

    def is_ready(self, postmaster: subprocess.Popen[bytes]) -> bool:
        """Whether the postmaster takes connections, by what it wrote into postmaster.pid."""
        lines = self._pid_file()
        return len(lines) > 7 and lines[0] == str(postmaster.pid) and lines[7].strip() == "ready"

    def stop(self, postmaster: subprocess.Popen[bytes]) -> None:
        """End the postmaster within the bounds of STOP_LADDER."""
        _descend(postmaster.pid, lambda: postmaster.poll() is not None)

    def stop_predecessor(self) -> int | None:
        """End the postmaster of a keeper that is no more; returns the process id if there was one.

        To be called under the keeper's lock. A postmaster.pid that names a process which is
        anything else is removed, as PostgreSQL would take that process for a postmaster.
        """
        lines = self._pid_file()
        pid = int(lines[0]) if lines and lines[0].isdigit() else 0
        if pid < 2:
            return None
        if self._is_postmaster(pid):
            _descend(pid, lambda: not self._is_postmaster(pid))
            return pid
        with suppress(ProcessLookupError, FileNotFoundError):
            with suppress(PermissionError):
                os.kill(pid, 0)
            Path(CLUSTER, "postmaster.pid").unlink()
        return None

    def failure(self, what: str) -> EmbeddedPostgresError:
        """`what` has gone wrong, with what is known about the reason."""
        free = shutil.disk_usage(".").free
        if free < LOW_DISK_BYTES:
            what += f" The disk has {free // 1_000_000} MB left: make room and try again."
        return EmbeddedPostgresError(f"{what} The end of {POSTGRES_LOG}:\n{tail(POSTGRES_LOG)}")

    def _pid_file(self) -> list[str]:
        try:
            text = Path(CLUSTER, "postmaster.pid").read_text(encoding="utf-8", errors="replace")
            return text.splitlines()
        except FileNotFoundError:
            return []

    def _is_postmaster(self, pid: int) -> bool:
        """Whether the process runs on this cluster: process ids are used again and again."""
        if LINUX:
            try:  # a postmaster works in its cluster folder; a zombie works nowhere
                return Path(f"/proc/{pid}/cwd").samefile(CLUSTER)
            except OSError:
                return False
        listing = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        command = subprocess.run(listing, capture_output=True, text=True, check=False).stdout
        return "postgres" in command and f"{self._home}/{CLUSTER}" in command

    def _spawn(
        self, command: list[str], stdin: int, before_exec: Callable[[], None] | None
    ) -> subprocess.Popen[bytes]:
        with Path(POSTGRES_LOG).open("ab") as log:
            return subprocess.Popen(
                [self._bin / command[0], *command[1:]],
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},  # no PG* variable may leak in
                pass_fds=self._pass_fds,
                preexec_fn=before_exec,
            )

    def _finish(
        self, command: list[str], script: bytes, meanwhile: Callable[[float], None]
    ) -> None:
        """Run a command on `script` to its end, calling `meanwhile(seconds)` to pass the time."""
        script_end, own_end = os.pipe()
        os.write(own_end, script)  # a few bytes, which a pipe holds until they are read
        os.close(own_end)
        process = self._spawn(command, script_end, die_with_parent(signal.SIGKILL))
        os.close(script_end)
        deadline = time.monotonic() + CREATE_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            meanwhile(POLL_SECONDS)
        if process.returncode is None:
            process.kill()
            process.wait()
            raise self.failure(f"{command[0]} has not finished in {CREATE_SECONDS:.0f} s.")
        if process.returncode:
            raise self.failure(f"{command[0]} failed with status {process.returncode}.")


def _remove_partial() -> None:
    for partial in Path().glob(f"{CLUSTER}.partial-*"):
        shutil.rmtree(partial, ignore_errors=True)


def _descend(pid: int, is_gone: Callable[[], bool]) -> None:
    """Try what STOP_LADDER offers until the process is gone."""
    for stop_signal, seconds in STOP_LADDER:
        with suppress(ProcessLookupError):
            os.kill(pid, stop_signal)
        deadline = time.monotonic() + seconds
        while not is_gone():
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        else:
            return
