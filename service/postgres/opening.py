"""The way into a cluster's home: its lock, its owner, and the end of root's rights.

Standard library only, as the keeper starts without site-packages.
"""

import fcntl
import os
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from service.postgres.account import (
    SHARED_WARNING,
    Account,
    account_for,
    idle_account,
    is_former_owner,
    peers_of,
    reachable_install,
)
from service.postgres.children import POLL_SECONDS
from service.postgres.cluster import Cluster
from service.postgres.home import (
    HOME,
    KEEPER_LOCK,
    KEEPER_LOG,
    KEEPER_SOCKET,
    EmbeddedPostgresError,
    socket_folder,
    verify_private,
)
from service.postgres.own_id import can_get_name, has_name
from service.postgres.ownership import move_files

LOCK_SECONDS = 40.0  # longer than a predecessor can take to stop PostgreSQL
BACKLOG = 128


def open_home(data_dir: Path, install: Path) -> tuple[Cluster, socket.socket, str | None] | None:
    """The cluster of the data folder, the keeper's listener, and a warning for its users.

    From here on this process is an ordinary user's, works in the home, and has its lock. None if
    there is a keeper already. Raises EmbeddedPostgresError or OSError if the folder cannot be used.
    """
    home = data_dir / HOME
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.mkdir(mode=0o700, exist_ok=True)
    is_root = os.geteuid() == 0
    # Root follows no link that the owner of the data folder may have laid.
    home_fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if is_root else 0))
    os.fchdir(home_fd)
    account = None
    if is_root:
        prepared = _give_up_root(data_dir, install, home_fd)
        if prepared is None:
            return None
        account, install = prepared
    elif not _take_lock(home):
        return None
    folder = socket_folder(home)
    here = _sockets_here(home)
    if here != ".":
        folder.mkdir(mode=0o700, exist_ok=True)
        verify_private(folder, os.geteuid())
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    Path(here, KEEPER_SOCKET).unlink(missing_ok=True)
    listener.bind(f"{here}/{KEEPER_SOCKET}")
    listener.listen(BACKLOG)
    listener.setblocking(False)
    warning = SHARED_WARNING.format(name=account.name) if account and account.is_shared else None
    return _cluster(home, home_fd, install, account), listener, warning


def _cluster(home: Path, home_fd: int, install: Path, account: Account | None) -> Cluster:
    """The cluster in the home, run by an account that root has chosen (None: by this user)."""
    seen_home, pass_fds = os.fspath(home), ()  # type: tuple[str, tuple[int, ...]]
    if account is not None:
        if Path("/proc/self/fd").is_dir():
            # An open folder is reached through here whatever the folders above it allow.
            seen_home, pass_fds = f"/proc/self/fd/{home_fd}", (home_fd,)
        elif not os.access(home, os.X_OK):
            raise EmbeddedPostgresError(
                f"PostgreSQL does not run as root, and user {account.name!r} cannot reach {home}. "
                "Choose a data folder that every user may walk to, or run as an ordinary user."
            )
    here = _sockets_here(home)
    sockets = seen_home if here == "." else here
    return Cluster(install, seen_home, sockets, here, pass_fds, peers_of(account))


def _give_up_root(data_dir: Path, install: Path, home_fd: int) -> tuple[Account, Path] | None:
    """Become the account of the home, and lock it; None if there is a keeper already.

    A home that is root's, or an earlier release's, is given to its account first.
    """
    home, data_owner_uid = data_dir / HOME, data_dir.stat().st_uid
    owner_uid = os.fstat(home_fd).st_uid
    account = account_for(owner_uid, data_owner_uid)
    if account.uid == owner_uid:
        install = reachable_install(install, account)
        account.become()
        return (account, install) if _take_lock(home) else None
    found = os.listdir(home_fd)
    if owner_uid == 0 and found and KEEPER_LOCK not in found:
        raise EmbeddedPostgresError(
            f"{home} belongs to root and is not empty: it was not made by this program. "
            "Choose another data folder."
        )
    if not _take_lock(home):
        return None
    owner_uid = os.fstat(home_fd).st_uid  # a rival that has ended may have given it away
    account = account_for(owner_uid, data_owner_uid)
    install = reachable_install(install, account)
    if account.uid != owner_uid:
        former_owner: Callable[[int], bool] = is_former_owner
        initdb = install / "bin" / "initdb"
        if not has_name(account.uid) and not can_get_name(initdb, account.uid, account.gid):
            former_owner = _create_with_name(home, home_fd, install)
        move_files(home_fd, account, former_owner)
    account.become()
    return account, install


def _create_with_name(home: Path, home_fd: int, install: Path) -> Callable[[int], bool]:
    """Make the cluster as another user who has a name, if there is no cluster yet.

    For systems that allow no user namespace (`own_id.with_name`). The user is one without
    processes, and the files are to be moved right after. Returns whose files are to be moved.
    """
    account = idle_account()
    if _cluster(home, home_fd, install, account).exists():
        return is_former_owner
    install = reachable_install(install, account)
    os.fchown(home_fd, account.uid, account.gid)
    child = os.fork()
    if child == 0:
        try:
            account.become()
            _cluster(home, home_fd, install, account).create(time.sleep)
            os._exit(0)
        except Exception:
            traceback.print_exc()
        os._exit(1)
    failed = os.waitpid(child, 0)[1]
    os.fchown(home_fd, 0, 0)
    if failed:
        raise EmbeddedPostgresError(f"the database files could not be made as {account.name!r}.")
    return lambda uid: uid == account.uid or is_former_owner(uid)


def _sockets_here(home: Path) -> str:
    folder = socket_folder(home)
    return "." if folder == home else os.fspath(folder)


def _take_lock(home: Path) -> bool:
    """Lock the home for the life of this process; False if a keeper is serving there instead."""
    lock = os.open(KEEPER_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            # Either a rival has won and will listen in a moment, or a predecessor is stopping.
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
                probe.setblocking(False)
                with suppress(BlockingIOError):  # the backlog is full, so there is a keeper
                    probe.connect(f"{_sockets_here(home)}/{KEEPER_SOCKET}")
                return False
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"the earlier keeper of {home} has not ended within {LOCK_SECONDS:.0f} s; "
                    f"its {KEEPER_LOG} may tell why."
                ) from None
            time.sleep(POLL_SECONDS)
