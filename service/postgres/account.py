"""The ordinary account that runs an embedded PostgreSQL when root asks for one.

PostgreSQL refuses to run as root. The keeper therefore gives up root for good, before it touches a
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

FALLBACK_ACCOUNT = "nobody"
# Folders for copies of binaries that the account cannot reach, as in a virtual environment below
# /root. The first is kept between boots, the second is for a system mounted read-only.
BINARY_FOLDERS = (
    Path("/var/lib/wepeople-ingest"),
    Path("/tmp/wepeople-ingest-binaries"),  # noqa: S108 -- `_ensure_roots_own` checks it
)
VERSION_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Account:
    """An ordinary user. Only root can `become` one, and cannot go back."""

    name: str
    uid: int
    gid: int

    def become(self) -> None:
        """Give up every right of root in this process, for good."""
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)


def account_for(home_owner_uid: int, data_owner_uid: int) -> Account:
    """The account that runs PostgreSQL: the files' owner if that is an ordinary user, else nobody.

    An owner without a name (of a container's volume) is taken only if the cluster is theirs
    already, because initdb needs the name of its user. Raises EmbeddedPostgresError if there is no
    account.
    """
    for uid in (home_owner_uid, data_owner_uid):
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            if uid == home_owner_uid:
                return Account(f"user id {uid}", uid, uid)
            continue
        if uid != 0:
            return Account(entry.pw_name, uid, entry.pw_gid)
    try:
        entry = pwd.getpwnam(FALLBACK_ACCOUNT)
    except KeyError:
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root, and this system has no user called "
            f"{FALLBACK_ACCOUNT!r}. Give the data folder to an ordinary user, or set DATABASE_URL."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


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
