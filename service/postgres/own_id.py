"""A user id that belongs to one cluster alone, and to no account of the system.

An account that others share, as `nobody`, is no protection: its processes may walk into each
other's folders through /proc. The id is chosen once, at random, and kept as the owner of the
cluster's files; nothing is written to the system.

Standard library only, as the keeper starts without site-packages.
"""

import ctypes
import grp
import pwd
import secrets
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# Above the ids of domains (FreeIPA, SSSD) and containers, below those that systemd keeps.
OWN_IDS = range(2_100_000_000, 2_101_000_000)
# For a user namespace of 65,536 ids: no distribution and no part of systemd gives these away.
SMALL_OWN_IDS = range(60_706, 61_184)
MAX_CHOICES = 200  # of each range, before the system counts as having no free id
SUBORDINATE_IDS = (Path("/etc/subuid"), Path("/etc/subgid"))  # ids that users may take by right
NEEDED_CAPABILITIES = (0, 6, 7)  # CAP_CHOWN, CAP_SETGID, CAP_SETUID
NAME_SECONDS = 20.0
_NEW_USER_NAMESPACE, _SET_DUMPABLE = 0x1000_0000, 4  # of unshare(2), of prctl(2)


def is_own_id(uid: int) -> bool:
    """Whether the id is in a range from which this module chooses."""
    return uid in OWN_IDS or uid in SMALL_OWN_IDS


def choose_id() -> int | None:
    """An id that no account and no process has, as user and as group.

    None if this process could not take it, or if the system does not tell.
    """
    try:
        if not _may_take_ids():
            return None
        taken = ids_of_processes()
        lent = _lent_ids()
    except OSError:
        return None
    for ids in (OWN_IDS, SMALL_OWN_IDS):
        for _ in range(MAX_CHOICES):
            chosen = secrets.choice(ids)
            if (
                _is_mapped(chosen)
                and chosen not in taken
                and not any(chosen in lent_range for lent_range in lent)
                and not has_name(chosen)
                and not _is_group(chosen)
            ):
                return chosen
    return None


def has_name(uid: int) -> bool:
    """Whether the system has an account of that id."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def ids_of_processes() -> set[int]:
    """The user and group ids of all processes."""
    found: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # it has ended
            for line in status.read_text(errors="replace").splitlines():
                if line.startswith(("Uid:", "Gid:", "Groups:")):
                    found.update(map(int, line.split()[1:]))
    return found


def with_name(uid: int, gid: int) -> Callable[[], None]:
    """A function for a child to run before exec, after which the child's user has a name.

    initdb does not run without one. In a user namespace of its own the child sees its id as that
    of some named account, and the kernel goes on to treat it as `uid`. Raises OSError in the child
    if the system allows no user namespace.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    named = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
    maps = {
        "setgroups": "deny",
        "uid_map": f"{named.pw_uid} {uid} 1",
        "gid_map": f"{named.pw_gid} {gid} 1",
    }

    def before_exec() -> None:
        if libc.unshare(_NEW_USER_NAMESPACE):
            raise OSError(ctypes.get_errno(), "no user namespace")
        libc.prctl(_SET_DUMPABLE, 1)  # or its files in /proc would be root's
        for name, content in maps.items():
            with Path("/proc/self", name).open("w") as file:
                file.write(content)

    return before_exec


def can_get_name(program: Path, uid: int, gid: int) -> bool:
    """Whether `with_name` works for a program run by that user, found by asking its version."""
    if sys.platform != "linux":
        return False
    try:
        subprocess.run(
            [program, "--version"],
            check=True,
            capture_output=True,
            timeout=NAME_SECONDS,
            cwd="/",
            user=uid,
            group=gid,
            extra_groups=[],
            preexec_fn=with_name(uid, gid),
        )
    except (OSError, subprocess.SubprocessError, StopIteration):
        return False
    return True


def _may_take_ids() -> bool:
    if sys.platform != "linux":
        return False
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            capabilities = int(line.split()[1], 16)
            return all(capabilities >> number & 1 for number in NEEDED_CAPABILITIES)
    return False


def _lent_ids() -> list[range]:
    lent = []
    for path in SUBORDINATE_IDS:
        with suppress(FileNotFoundError):
            for line in path.read_text(errors="replace").splitlines():
                with suppress(ValueError):
                    _, first, count = line.split(":")
                    lent.append(range(int(first), int(first) + int(count)))
    return lent


def _is_mapped(number: int) -> bool:
    """Whether the id exists in this process's user namespace, for users and for groups."""
    for name in ("uid_map", "gid_map"):
        lines = Path("/proc/self", name).read_text().splitlines()
        ranges = [(int(first), int(count)) for first, _, count in map(str.split, lines)]
        if not any(first <= number < first + count for first, count in ranges):
            return False
    return True


def _is_group(gid: int) -> bool:
    try:
        grp.getgrgid(gid)
    except KeyError:
        return False
    return True
