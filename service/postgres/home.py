"""The home of an embedded PostgreSQL: its folder, its sockets and its logs.

Standard library only, as the keeper starts without site-packages.
"""

import hashlib
import os
import shutil
import socket
import stat
import struct
import sys
from contextlib import suppress
from pathlib import Path

MAJOR_VERSION = 18
HOME = "postgres"  # the folder within the data folder that is PostgreSQL's own
POSTGRES_LOG = "postgresql.log"
PORT = 5432  # only a part of the socket's name, as there is no TCP
SOCKET = f".s.PGSQL.{PORT}"
KEEPER_SOCKET = "keeper.sock"
KEEPER_LOCK = "keeper.lock"
KEEPER_LOG = "keeper.log"
SUPERUSER = "wepeople"
DATABASE = "wepeople"

MAX_SOCKET_PATH_BYTES = 99  # sun_path holds 104 bytes on macOS and 108 on Linux
MAX_LOG_BYTES = 10_000_000
TAIL_LINES = 12
TAIL_BYTES = 4_000


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be used; the message says why and what to do."""


def socket_folder(home: Path) -> Path:
    """The folder of the sockets of the cluster in `home`: `home`, or a private one under /tmp.

    It is under /tmp if the path would be too long for a socket, or holds a comma, at which libpq
    splits host names. TMPDIR is not used, because every process must find the same folder.
    """
    path = os.fsencode(home / SOCKET)
    if len(path) <= MAX_SOCKET_PATH_BYTES and b"," not in path:
        return home
    name = f"wepeople-postgres-{hashlib.sha256(path).hexdigest()[:20]}"
    return Path("/tmp", name)  # noqa: S108 -- `verify_private` sees to it that it is safe


def verify_private(folder: Path, owner_uid: int) -> None:
    """Raise EmbeddedPostgresError if another user owns the socket folder or may enter it."""
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


def peer_uid(connection: socket.socket) -> int | None:
    """The user id of the process at the other end of a Unix socket; None where the system is mute.

    For the end that connected it is the one that listens.
    """
    if sys.platform != "linux":
        return None
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("iII", credentials)
    return int(uid)


def keep_log_small(path: str) -> None:
    """Copy a log that has outgrown MAX_LOG_BYTES to `*.1`, replacing the last copy, and empty it.

    It is not renamed, because the processes that append to it keep it open. On a full disk it stays
    as it is.
    """
    with suppress(OSError):
        if Path(path).stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(path, f"{path}.1")
            os.truncate(path, 0)


def tail(path: str | Path) -> str:
    """The last lines of a log; empty if there is none or it cannot be read."""
    # The folder may be another user's, who may have laid a link or a pipe there.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
    except OSError:
        return ""
