"""The hosts of docs/operations.md: two of databases, on addresses of the loopback, and a service's.

The commands of the page run on them as they stand; names, folders and passwords are filled in.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from psycopg.conninfo import make_conninfo

from service.postgres.account import Account
from service.postgres.home import tail
from tests.operations.document import Block, sections
from tests.support.postgres_server import SUPERUSER, kill_postmaster, ordinary_account, run_as
from tests.support.service_process import (
    ANY_PORT,
    PROJECT,
    ServiceProcess,
    is_alive,
    without_settings,
)
from tests.support.waiting import wait_until

ADDRESSES: Final = {"db1": "127.0.0.11", "db2": "127.0.0.12"}
PASSWORD: Final = "change-me"  # as on the page
BLOCK_SECONDS: Final = 60
BIN: Final = Path(sys.executable).parent
# Of the test's own: what a server on a machine of its own needs not be told.
LOCAL: Final = """
listen_addresses = '{address}'
unix_socket_directories = '{folder}'
shared_buffers = '32MB'
"""


def programs(folder: Path, install: Path) -> Path:
    """A copy of all programs of an embedded PostgreSQL, which every user may run."""
    package = install.parent.name
    for source in (install, install.parents[1] / f"{package}.libs"):
        if source.is_dir():
            copy = folder / source.relative_to(install.parents[1])
            shutil.copytree(source, copy, dirs_exist_ok=True)
    subprocess.run(["/bin/chmod", "-R", "a+rX", os.fspath(folder)], check=True)
    return folder / package / install.name / "bin"


class DatabaseHost:
    """A host of a PostgreSQL server, whose commands run as an ordinary user."""

    def __init__(self, name: str, folder: Path, port: int, binaries: Path) -> None:
        self._account: Account | None = ordinary_account()
        self._folder = folder / name
        self.port = port
        self.address = ADDRESSES[name]
        self.data = self._folder / "data"
        self.environment = {
            "PATH": f"{binaries}:/usr/bin:/bin",
            "HOME": os.fspath(self._folder),
            "LC_ALL": "C",
            "PGDATA": os.fspath(self.data),
            "PGHOST": os.fspath(self._folder),
            "PGPORT": str(port),
            "PGUSER": SUPERUSER,
            "PGPASSWORD": PASSWORD,
        }
        self.own(self._folder)
        (self._folder / "local.conf").write_text(
            LOCAL.format(address=self.address, folder=self._folder)
        )

    def own(self, folder: Path) -> None:
        """Make a folder of this host's user."""
        folder.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(folder, self._account.uid, self._account.gid)

    def receive(self, file: Path) -> None:
        """Copy a file into the folder in which commands run."""
        copy = Path(shutil.copy(file, self._folder))
        if self._account is not None:
            os.chown(copy, self._account.uid, self._account.gid)

    def create(self) -> None:
        """Make a server, in which nobody but the superuser may do anything, and start it."""
        self.run(
            "initdb --username=$PGUSER --pwfile=<(echo $PGPASSWORD) --encoding=UTF8 --no-sync\n"
            "echo \"include_if_exists = '../local.conf'\" >> $PGDATA/postgresql.conf\n"
            'echo "local all $PGUSER scram-sha-256" > $PGDATA/pg_hba.conf\n'
            "pg_ctl start --log=postgres.log"
        )

    def run(self, script: str) -> str:
        """Run a script as this host's user; returns its stdout."""
        return _run(script, self.environment, self._folder, self._account)[0]

    def conninfo(self, **parameters: str) -> str:
        """A superuser's connection string."""
        way = {"host": os.fspath(self._folder), "port": str(self.port), "user": SUPERUSER}
        return make_conninfo(**{**way, "password": PASSWORD, "dbname": "postgres", **parameters})

    def kill(self) -> None:
        """SIGKILL to all processes of the server, if it runs."""
        lock = self.data / "postmaster.pid"
        try:
            pid = int(lock.read_text().split()[0])
        except FileNotFoundError:
            return
        if is_alive(pid):
            kill_postmaster(pid)
            wait_until(lambda: not is_alive(pid), "the server has ended")
        # No process has its id after a power cut; here nobody may have taken note of its end yet.
        for path in (lock, *self._folder.glob(".s.PGSQL.*")):
            path.unlink()


class ServiceHost:
    """A host of the service; ``environment`` is that of its commands and of the service."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._services: list[ServiceProcess] = []
        self.environment = {
            **without_settings(os.environ),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join((os.fspath(PROJECT), os.fspath(PROJECT / "client"))),
            **environment,
        }

    def run(self, script: str) -> str:
        """Run a script; returns its stdout. The variables that it exports stay set."""
        output, self.environment = _run(script, self.environment, self.folder, None)
        return output

    def start_service(self) -> ServiceProcess:
        """Start the service; it is killed in the end (:meth:`kill`)."""
        settings = {
            name: value
            for name, value in self.environment.items()
            if name.startswith(("PG", "PYTHONPATH", "DATABASE_URL", "WEPEOPLE_"))
        }
        process = ServiceProcess(self.folder, grpc=ANY_PORT, server_processes=1, **settings)
        self._services.append(process)
        process.start()
        return process

    def kill(self) -> None:
        """End every service that still runs."""
        for process in self._services:
            process.kill()


class Page:
    """The commands of the page, on hosts; ``names`` are replaced in them."""

    def __init__(
        self,
        names: Mapping[str, str],
        service: ServiceHost,
        databases: Mapping[str, DatabaseHost] = {},
    ) -> None:
        self.names = {**names, **{f"{name}.internal": to for name, to in ADDRESSES.items()}}
        self._service = service
        self._databases = databases
        self._left = sections()

    def run(self, heading: str, blocks: int = 1) -> str:
        """Run the next blocks of a section, each in its place; returns what they print."""
        return "".join(self._run(self._left[heading].pop(0)) for _ in range(blocks))

    def skip(self, heading: str) -> None:
        """Leave out the next block of a section."""
        self._left[heading].pop(0)

    def is_done(self, *headings: str) -> bool:
        """Whether all blocks of those sections have run."""
        return not any(self._left[heading] for heading in headings)

    def _run(self, block: Block) -> str:
        script = block.script
        for name, replacement in self.names.items():
            script = script.replace(name, replacement)
        return self._databases.get(block.place, self._service).run(script)


def _run(
    script: str, environment: Mapping[str, str], folder: Path, account: Account | None
) -> tuple[str, dict[str, str]]:
    """The output of a script, and the environment in its end."""
    variables = folder / "variables"
    variables.unlink(missing_ok=True)
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", f"{script}\nenv -0 > variables"],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BLOCK_SECONDS,
        check=False,
        **run_as(account),
    )
    said = f"{done.stdout}\n{done.stderr}\n{tail(folder / 'postgres.log')}"
    assert done.returncode == 0, f"{script}\n{said}"
    exported = dict(re.findall(r"([^=\0]+)=([^\0]*)\0", variables.read_text()))
    return done.stdout, exported
