"""The ordinary account that runs an embedded PostgreSQL when root asks for one.

PostgreSQL refuses to run as root. The keeper therefore gives up root for good, before it reads a
file of the cluster, and this module decides for which account.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from service.postgres.home import MAJOR_VERSION, EmbeddedPostgresError
from service.postgres.own_id import choose_id, has_name, ids_of_processes, is_own_id

FALLBACK_ACCOUNT = "nobody"
# Folders for copies of binaries that the account cannot reach, as in a virtual environment below
# /root. The first is kept between boots, the second is for a system mounted read-only.
BINARY_FOLDERS = (
    Path("/var/lib/wepeople-ingest"),
    Path("/tmp/wepeople-ingest-binaries"),  # noqa: S108 -- `_ensure_roots_own` checks it
)
VERSION_SECONDS = 20.0


SHARED_WARNING = (
    "the embedded PostgreSQL runs as the user {name!r}, whom others may share: every process of "
    "that user can read and change the database. No user id of its own can be had here, for want "
    "of CAP_CHOWN, CAP_SETUID and CAP_SETGID, or of /proc. Give the data folder to an ordinary "
    "user, or set DATABASE_URL."
)


@dataclass(frozen=True, slots=True)
class Account:
    """An ordinary user. Only root can `become` one, and cannot go back."""

    name: str
    uid: int
    gid: int
    is_shared: bool = False  # others may run processes of it

    def become(self) -> None:
        """Give up every right of root in this process, for good."""
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)


def account_for(home_owner_uid: int, data_owner_uid: int) -> Account:
    """The account that runs PostgreSQL for root.

    There are four cases: 1. the home's owner, a user id of the cluster's own as a rule; 2. the data
    folder's owner, if that is an ordinary user with a name; 3. a user id of its own, chosen now;
    4. nobody, if none can be had. A home that nobody owns, in a data folder of somebody else, was
    made by an earlier release, and nobody does not count as its owner. Raises EmbeddedPostgresError
    if there is no account.
    """
    nobody = fallback_uid()
    for uid in (home_owner_uid, data_owner_uid):
        if uid == 0 or (uid == nobody != data_owner_uid):
            continue
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            if uid == home_owner_uid:
                return Account(f"user id {uid}", uid, uid)
            continue
        return Account(entry.pw_name, uid, entry.pw_gid)
    own_id = choose_id()
    if own_id is not None:
        return Account(f"user id {own_id}", own_id, own_id)
    if nobody is None:
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root, and this system has no user called "
            f"{FALLBACK_ACCOUNT!r}. Give the data folder to an ordinary user, or set DATABASE_URL."
        )
    entry = pwd.getpwuid(nobody)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, is_shared=True)


def fallback_uid() -> int | None:
    """The id of `nobody`; None on a system without."""
    try:
        return pwd.getpwnam(FALLBACK_ACCOUNT).pw_uid
    except KeyError:
        return None


def is_former_owner(uid: int) -> bool:
    """Whether files of that user are moved: nobody's, and those of a move that was interrupted."""
    return uid == fallback_uid() or is_own_id(uid)


def idle_account() -> Account:
    """An account with a name of which no process runs at this moment; nobody, if that is one.

    Raises EmbeddedPostgresError if there is none.
    """
    busy = ids_of_processes()
    idle = [entry for entry in pwd.getpwall() if entry.pw_uid != 0 and entry.pw_uid not in busy]
    if not idle:
        raise EmbeddedPostgresError(
            "initdb needs a user with a name, and processes of every user run here. Allow user "
            "namespaces, give the data folder to an ordinary user, or set DATABASE_URL."
        )
    entry = next((entry for entry in idle if entry.pw_name == FALLBACK_ACCOUNT), idle[0])
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def peers_of(account: Account | None) -> tuple[str, ...]:
    """The names of the users who may connect: root and, unless it is shared, the account.

    None stands for this process's own user. Empty if the users who may connect have no names.
    """
    names = [pwd.getpwuid(0).pw_name] if has_name(0) else []
    if account is None:
        if not has_name(os.geteuid()):
            return ()
        names.append(pwd.getpwuid(os.geteuid()).pw_name)
    elif not account.is_shared and has_name(account.uid):
        names.append(account.name)
    return tuple(names)


def reachable_install(
    install: Path, account: Account, folders: tuple[Path, ...] = BINARY_FOLDERS
) -> Path:
    """A folder of PostgreSQL binaries that the account can run: `install`, or a copy of it.

    The copy belongs to root, is named after its content, so that an upgrade makes a new one, and
    appears complete or not at all. Handing an open folder down, as is done with the data,
    does not help here: PostgreSQL resolves its own path, and the loader that of the libraries.
    Raises EmbeddedPostgresError if no folder will do.
    """
    if _runs(install, account):
        return install
    digest = hashlib.sha256((install / "bin" / "postgres").read_bytes()).hexdigest()[:16]
    package, version = install.parts[-2:]
    reasons = []
    for parent in folders:
        target = parent / f"postgres-{MAJOR_VERSION}-{digest}"
        try:
            _ensure_roots_own(parent)
            if not target.exists():
                _copy(install, target)
        except OSError as error:
            reasons.append(str(error))
            continue
        if _runs(target / package / version, account):
            return target / package / version
        reasons.append(f"it cannot be run from {parent} either")
    raise EmbeddedPostgresError(
        f"user {account.name!r} cannot run the PostgreSQL in {install}: {'; '.join(reasons)}. "
        "Install this project where every user may read it, or run it as an ordinary user."
    )


def _runs(install: Path, account: Account) -> bool:
    """Whether the account can run the binaries, found by running them."""
    try:
        for program in ("postgres", "initdb"):
            subprocess.run(
                [install / "bin" / program, "--version"],
                check=True,
                capture_output=True,
                timeout=VERSION_SECONDS,
                cwd="/",
                user=account.uid,
                group=account.gid,
                extra_groups=[],
            )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _ensure_roots_own(folder: Path) -> None:
    """Make the folder if it is missing; PermissionError if others could put programs into it."""
    if not folder.exists():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is not a folder that only root can write to")


def _copy(install: Path, target: Path) -> None:
    """Copy what initdb and postgres need, as laid out in the wheel: they look for it relatively."""
    staging = Path(tempfile.mkdtemp(prefix=".copying-", dir=target.parent))
    try:
        package, version = install.parts[-2:]
        new = staging / package / version
        (new / "bin").mkdir(parents=True)
        for program in ("postgres", "initdb"):
            shutil.copy(install / "bin" / program, new / "bin")
        shutil.copytree(install / "lib", new / "lib", ignore=shutil.ignore_patterns("*.a"))
        shutil.copytree(install / "share", new / "share")
        libraries = f"{package}.libs"
        if (install.parents[1] / libraries).is_dir():
            shutil.copytree(install.parents[1] / libraries, staging / libraries)
        for path in (staging, *staging.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.sync()
        staging.rename(target)
    except OSError:
        if not target.exists():  # otherwise another process has made the same copy
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
