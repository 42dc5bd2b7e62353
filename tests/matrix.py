"""The behaviour suite on other databases and other cells than the usual ones: `make matrix`.

Run as ``python -m tests.matrix [ARGUMENTS OF PYTEST]``. The organizations live by turns in two
cells, which are schemas of one embedded database and then databases of two servers. Then they all
live on the Citus cluster of ``WEPEOPLE_TEST_CITUS`` (tests/support/citus.py). Then there is a
PostgreSQL of the system's own (Debian's package ``postgresql``), and the same behind PgBouncer in
session mode (``pgbouncer``). One that is not there is skipped, with a line that says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from core.postgres.sessions import MIN_POSTGRES_VERSION
from tests.support import citus
from tests.support.pgbouncer import PROGRAM, pgbouncer
from tests.support.postgres_server import postgres_server

VERSIONS: Final = Path("/usr/lib/postgresql")
TESTS: Final = ("tests/behaviour",)
TEST_PROCESSES: Final = 2


def installed() -> Path | None:
    """The folder of the newest binaries of the system's own; None if there are none new enough."""
    majors = [int(path.name) for path in VERSIONS.glob("*") if path.name.isdigit()]
    newest = max(majors, default=0)
    binaries = VERSIONS / str(newest) / "bin"
    is_usable = newest * 10_000 >= MIN_POSTGRES_VERSION and (binaries / "postgres").is_file()
    return binaries if is_usable else None


def run_tests(title: str, arguments: list[str], **environment: str) -> bool:
    """Run the tests with these variables; returns whether any failed."""
    sys.stdout.write(f"\n=== {title}\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "pytest", "--numprocesses", str(TEST_PROCESSES), *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode != 0


def run_on_cells(arguments: list[str]) -> bool:
    """Run the tests on two cells; returns whether any failed."""
    failed = run_tests("two cells, schemas", arguments, WEPEOPLE_TEST_CELLS="schemas")
    return run_tests("two cells, servers", arguments, WEPEOPLE_TEST_CELLS="servers") or failed


def run_on_citus(arguments: list[str]) -> bool:
    """Run the tests on the Citus cluster that there is; returns whether any failed."""
    if not os.environ.get(citus.VARIABLE):
        sys.stdout.write(f"skipped: no Citus cluster ({citus.VARIABLE})\n")
        return False
    return run_tests("a cell on Citus", arguments, WEPEOPLE_TEST_CELLS="citus")


def run_on_the_systems(arguments: list[str]) -> bool:
    """Run the tests on the PostgreSQL of the system; returns whether any failed."""
    binaries = installed()
    if binaries is None:
        sys.stdout.write("skipped: no PostgreSQL of the system's own (Debian: postgresql)\n")
        return False
    title = f"PostgreSQL in {binaries.parent}"
    with postgres_server(binaries) as server:
        failed = run_tests(title, arguments, DATABASE_URL=server.conninfo)
        if PROGRAM is None:
            sys.stdout.write("skipped: no PgBouncer (Debian: pgbouncer)\n")
            return failed
        # Databases are copied and dropped: no connection of a pool may stay on them.
        with pgbouncer(server, server_lifetime_seconds=0) as url:
            return run_tests(f"{title}, through PgBouncer", arguments, DATABASE_URL=url) or failed


def main() -> int:
    """Run the tests on each database there is; returns 1 if any failed."""
    arguments = sys.argv[1:] or list(TESTS)
    failed = [run(arguments) for run in (run_on_cells, run_on_citus, run_on_the_systems)]
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
