"""The keeper: the parent process of PostgreSQL, which lives for as long as there is a lease on it.

Every user of the embedded database (a server process, a supervisor, a command, a test) keeps a
lease, a connection to the keeper's Unix socket. The kernel closes it however the user ends. When
the last lease is closed, the keeper stops PostgreSQL and ends.

Run as `python -m service.postgres.keeper DATA_FOLDER BINARIES_FOLDER`. It returns once the
keeper is listening, in the background, or a keeper was there already (status 0), or with the reason
on stderr why there can be none (status 1).
"""

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import FrameType

from service.postgres.children import POLL_SECONDS, adopt_orphans, end_orphans
from service.postgres.cluster import Cluster
from service.postgres.home import (
    KEEPER_LOG,
    KEEPER_SOCKET,
    POSTGRES_LOG,
    EmbeddedPostgresError,
    keep_log_small,
)
from service.postgres.leases import Leases
from service.postgres.opening import open_home

START_SECONDS = 300.0  # a crash may leave some gigabytes of log to replay
TERMINATE_SECONDS = 30.0  # after SIGTERM: for servers, told at the same time, to drain
MAX_STARTS = 5  # of PostgreSQL, within ...
RESTART_WINDOW_SECONDS = 60.0
STARTING = "starting PostgreSQL"  # told to the leases that wait
CHECK_SECONDS = 10.0  # between checks of the size of the log


class Keeper:
    """Runs one cluster for its leases; `run` returns when there is no lease left."""

    def __init__(self, cluster: Cluster, listener: socket.socket, warning: str | None) -> None:
        self._cluster = cluster
        self._listener = listener
        self._warning = warning
        self._terminate_at: float | None = None
        wakeup, self._wake = socket.socketpair()
        for end in (wakeup, self._wake):
            end.setblocking(False)
        self._leases = Leases(listener, wakeup)
        self._postmaster: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Serve the leases. A failure is sent to them, is logged, and ends the keeper."""
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the wakeup descriptor is enough
        signal.signal(signal.SIGTERM, self._on_terminate)
        for meant_for_others in (signal.SIGINT, signal.SIGHUP):
            signal.signal(meant_for_others, lambda *_: None)
        try:
            if self._warning is not None:
                log(f"WARNING: {self._warning}")
            adopt_orphans()
            stopped = self._cluster.stop_predecessor()
            if stopped is not None:
                log(f"stopped the PostgreSQL of an earlier keeper, process {stopped}")
            if not self._cluster.exists():
                self._leases.progress("creating the database files")
                self._cluster.create(self._leases.wait)
            self._serve()
        except EmbeddedPostgresError as failure:
            self._give_up(str(failure), str(failure))
        except Exception as error:
            reason = f"the keeper of PostgreSQL failed: {error}. {KEEPER_LOG} tells more."
            self._give_up(reason, traceback.format_exc())
        finally:
            # A process that comes now starts another keeper, which waits for the lock of this one.
            # Those who have connected and were not accepted see the end of their connection, and
            # start one as well.
            sockets = Path(self._cluster.sockets_here)
            (sockets / KEEPER_SOCKET).unlink(missing_ok=True)
            self._listener.close()
            if self._postmaster is not None:
                self._cluster.stop(self._postmaster)
            with suppress(OSError):
                sockets.rmdir()  # if it is the one under /tmp, and not the home
            log("PostgreSQL has stopped; the keeper ends")

    def _serve(self) -> None:
        starts: deque[float] = deque(maxlen=MAX_STARTS)
        self._leases.progress(STARTING)
        while not self._is_over():
            if len(starts) == MAX_STARTS and time.monotonic() - starts[0] < RESTART_WINDOW_SECONDS:
                raise self._cluster.failure(
                    f"PostgreSQL has ended by itself {MAX_STARTS} times "
                    f"in {RESTART_WINDOW_SECONDS:.0f} s."
                )
            if starts:
                end_orphans()
            starts.append(time.monotonic())
            self._postmaster = postmaster = self._cluster.start()
            deadline = time.monotonic() + START_SECONDS
            while postmaster.poll() is None and not self._cluster.is_ready(postmaster):
                if self._is_over():
                    return
                if time.monotonic() > deadline:
                    raise self._cluster.failure(
                        f"PostgreSQL was not ready within {START_SECONDS:.0f} s."
                    )
                self._leases.wait(POLL_SECONDS)
            if postmaster.poll() is None:
                log(f"PostgreSQL is ready, process {postmaster.pid}")
                self._leases.answer(
                    {"ready": True}
                    if self._warning is None
                    else {"ready": True, "warning": self._warning}
                )
            while postmaster.poll() is None:
                if self._is_over():
                    return
                keep_log_small(POSTGRES_LOG)
                left = self._leases.seconds_left()
                self._leases.wait(CHECK_SECONDS if left is None else left)
            # Before anybody is accepted again, who would be told of the one that has ended.
            self._leases.progress(STARTING)
            log(f"PostgreSQL has ended by itself with status {postmaster.returncode}")
            if self._terminate_at is not None:
                return

    def _give_up(self, reason: str, details: str) -> None:
        log(details)
        self._leases.answer({"error": reason})
        while (
            left := self._leases.seconds_left()
        ):  # the process that has started the keeper may not have connected yet
            self._leases.wait(left)

    def _is_over(self) -> bool:
        self._leases.wait(0)  # accept those who have connected already
        left = self._leases.seconds_left()
        if self._terminate_at is None:
            return left == 0
        return left is not None or time.monotonic() > self._terminate_at

    def _on_terminate(self, _signal: int, _frame: FrameType | None) -> None:
        # The machine or the service goes down. The holders of leases have got the signal as well,
        # and may still have something to commit.
        self._terminate_at = time.monotonic() + TERMINATE_SECONDS


def log(text: str) -> None:
    """Write a line into keeper.log."""
    with suppress(OSError):  # a full disk must not end the keeper
        sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")
        sys.stderr.flush()


def main() -> int:
    """Start a keeper in the background unless there is one; returns the exit status."""
    os.umask(0o077)
    data_dir, install = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        opened = open_home(data_dir, install)
        if opened is None:
            return 0
        keep_log_small(KEEPER_LOG)
        log_fd = os.open(KEEPER_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except EmbeddedPostgresError as failure:
        sys.stderr.write(str(failure))
        return 1
    except OSError as error:
        sys.stderr.write(
            f"{data_dir} cannot be the data folder: {error} (as user id {os.geteuid()}). "
            "Put that right, or choose another folder."
        )
        return 1
    if os.fork():
        os._exit(0)  # the starter, who waits for this, now finds the keeper listening
    for standard in (1, 2):
        os.dup2(log_fd, standard)
    os.close(log_fd)
    Keeper(*opened).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
