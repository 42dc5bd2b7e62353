"""One embedded PostgreSQL cluster: its creation, its start and its end.

Standard library only, as the keeper starts without site-packages. Paths are relative to the
cluster's home, which is the keeper's working directory. They still work after the keeper has given
up root for a user who may not enter the folders above.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from service.postgres.children import LINUX, POLL_SECONDS, before_creation, descend, die_with_parent
from service.postgres.home import (
    DATABASE,
    MAJOR_VERSION,
    PORT,
    POSTGRES_LOG,
    SOCKET,
    SUPERUSER,
    EmbeddedPostgresError,
    tail,
)

CLUSTER = f"pgdata-{MAJOR_VERSION}"
ACCESS_RULES, ACCESS_NAMES = "access.conf", "access_names.conf"
LOW_DISK_BYTES = 64_000_000  # a new cluster is 40 MB, and PostgreSQL needs 16 MB at a time
CREATE_SECONDS = 120.0

# Given on the command line, and so in force for clusters made by earlier releases as well.
SETTINGS = {
    # A crash's recovery flushes the file system in one call, not some thousand files one by one.
    **({"recovery_init_sync_method": "syncfs"} if LINUX else {}),
    "listen_addresses": "",  # connections come through the Unix socket alone ...
    "unix_socket_permissions": "0700",  # ... and only its owner (and root) may open it
    "port": str(PORT),  # or PGPORT and postgresql.conf would have a say
    "max_connections": "500",  # 128 for all server processes together, 11 for each command
    "shared_buffers": "256MB",  # the hot part of keys and indexes; the kernel caches the rest
    "fsync": "on",  # what was acknowledged survives a power cut:
    "synchronous_commit": "on",  # these three are the promise to producers
    "full_page_writes": "on",
    # With it on, a commit now and then waits some 50 ms for 16 MB of zeros. Durability does not
    # need them: a full disk is only noticed later.
    "wal_init_zero": "off",
    # Without it, the kernel collects writes to tables and flushes all of them at once, and commits
    # wait a few hundred milliseconds for that.
    "backend_flush_after": "1MB",
    "max_wal_size": "4GB",  # checkpoints by the clock, not every few seconds of heavy ingest
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",  # which the keeper has pointed at postgresql.log
    "logging_collector": "off",
    "log_error_verbosity": "terse",  # DETAIL repeats the values of rows, which are personal data
    "log_min_error_statement": "panic",  # the same goes for the text of statements
    "log_checkpoints": "off",  # routine, and the log has to stay small
}


class Cluster:
    """One cluster below the working directory, run by the binaries in `install`.

    `home` and `sockets` are paths for the PostgreSQL processes, which inherit `pass_fds`;
    `sockets_here` is the path of the socket folder for this process. `peers` are the names of the
    system's users who may connect; if empty, all may whom the socket's permissions let in.
    """

    def __init__(
        self,
        install: Path,
        home: str,
        sockets: str,
        sockets_here: str,
        pass_fds: tuple[int, ...],
        peers: tuple[str, ...],
    ) -> None:
        self._bin = install / "bin"
        self._home = home
        self._sockets = sockets
        self.sockets_here = sockets_here
        self._pass_fds = pass_fds
        self._peers = peers

    def exists(self) -> bool:
        """Whether there is a cluster.

        Raises EmbeddedPostgresError if there is one of another major version.
        """
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

        It is made under another name and renamed once it is complete and on disk. Files that a
        killed attempt has left are removed. Raises EmbeddedPostgresError if it fails.
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
        """Start the postmaster; it takes connections once `is_ready`."""
        # The keeper's lock says that these can only be leftovers. PostgreSQL itself would take
        # the process id in the lock file for a rival, if some other process has it by now.
        for leftover in (SOCKET, f"{SOCKET}.lock"):
            Path(self.sockets_here, leftover).unlink(missing_ok=True)
        # Quoted, because the setting is a list with commas in between.
        sockets = '"' + self._sockets.replace('"', '""') + '"'
        self._write_access_rules()
        settings = {
            **SETTINGS,
            "unix_socket_directories": sockets,
            "hba_file": f"{self._home}/{ACCESS_RULES}",
            "ident_file": f"{self._home}/{ACCESS_NAMES}",
        }
        options = [part for name in settings for part in ("-c", f"{name}={settings[name]}")]
        command = ["postgres", "-D", f"{self._home}/{CLUSTER}", *options]
        return self._spawn(command, subprocess.DEVNULL, die_with_parent(signal.SIGQUIT))

    def _write_access_rules(self) -> None:
        """Have PostgreSQL ask the kernel who connects, in clusters of earlier releases as well."""
        method = "peer map=users" if self._peers else "trust"
        Path(ACCESS_RULES).write_text(f"local all all {method}\n")
        names = [f'users "{name}" all\n' for name in self._peers if '"' not in name]
        Path(ACCESS_NAMES).write_text("".join(names))

    def is_ready(self, postmaster: subprocess.Popen[bytes]) -> bool:
        """Whether the postmaster takes connections, by what it wrote into postmaster.pid."""
        lines = self._pid_file()
        return len(lines) > 7 and lines[0] == str(postmaster.pid) and lines[7].strip() == "ready"

    def stop(self, postmaster: subprocess.Popen[bytes]) -> None:
        """End the postmaster within the bounds of STOP_LADDER."""
        descend(postmaster.pid, lambda: postmaster.poll() is not None)

    def stop_predecessor(self) -> int | None:
        """End the postmaster of a keeper that has ended; returns its process id, None without one.

        Call it under the keeper's lock. A postmaster.pid that names a process which is
        anything else is removed, as PostgreSQL would take that process for a postmaster.
        """
        lines = self._pid_file()
        pid = int(lines[0]) if lines and lines[0].isdigit() else 0
        if pid < 2:
            return None
        if self._is_postmaster(pid):
            descend(pid, lambda: not self._is_postmaster(pid))
            return pid
        with suppress(ProcessLookupError, FileNotFoundError):
            with suppress(PermissionError):
                os.kill(pid, 0)
            Path(CLUSTER, "postmaster.pid").unlink()
        return None

    def failure(self, what: str) -> EmbeddedPostgresError:
        """An error that says `what` failed, with the end of the log and a note of a full disk."""
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
        """Whether the process runs on this cluster; process ids are used again."""
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
        process = self._spawn(command, script_end, before_creation())
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
