"""The owner of a cluster's files, and their change of hands.

Standard library only, as the keeper starts without site-packages.
"""

import os
import stat
from collections.abc import Callable

from service.postgres.account import Account
from service.postgres.home import KEEPER_LOCK, EmbeddedPostgresError


def move_files(home_fd: int, to: Account, is_ours: Callable[[int], bool]) -> None:
    """Give the home and all that is in it to an account; only root can.

    The home is root's until all of it is done, so that a move that was interrupted is known, and
    begun again. The former owner's processes may still have folders of it open. No link of theirs
    is followed, and no file is given away that has another name elsewhere or another owner than
    `is_ours` admits: EmbeddedPostgresError names it.
    """
    os.fchown(home_fd, 0, 0)
    os.fchmod(home_fd, 0o700)
    _move_entries(home_fd, "", to, is_ours)
    os.fchown(home_fd, to.uid, to.gid)


def _move_entries(folder_fd: int, path: str, to: Account, is_ours: Callable[[int], bool]) -> None:
    for name in os.listdir(folder_fd):
        shown = f"{path}{name}"
        kind = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
        if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
            continue  # nobody has rights by owning a link or a socket that was left
        entry_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder_fd)
        try:
            found = os.fstat(entry_fd)
            is_folder = stat.S_ISDIR(found.st_mode)
            may_move = is_ours(found.st_uid) or (found.st_uid == 0 and shown == KEEPER_LOCK)
            if not may_move or (not is_folder and found.st_nlink != 1):
                raise EmbeddedPostgresError(
                    f"the file {shown!r} of the database folder belongs to user id "
                    f"{found.st_uid} and has {found.st_nlink} names: it was not made by this "
                    "program, which therefore changes no owner. Look into it, and remove it."
                )
            os.fchown(entry_fd, to.uid, to.gid)
            if is_folder:  # from here on nobody else can add to it
                _move_entries(entry_fd, f"{shown}/", to, is_ours)
        finally:
            os.close(entry_fd)
