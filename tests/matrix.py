"""The behaviour suite on other databases than the embedded one: `make matrix`.

Run as ``python -m tests.matrix [ARGUMENTS OF PYTEST]``. The databases are a PostgreSQL of the
system's own (Debian's package ``postgresql``), and the same behind PgBouncer in session mode
(``pgbouncer``). One that is not installed is skipped, with a line that says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from core.postgres.sessions import MIN_POSTGRES_VERSION
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


def run_tests(title: str, database_url: str, arguments: list[str]) -> int:
    """Run the tests on a database; returns pytest's exit status."""
    sys.stdout.write(f"\n=== {title}\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "pytest", "--numprocesses", str(TEST_PROCESSES), *arguments]
    environment = {**os.environ, "DATABASE_URL": database_url}
    return subprocess.run(command, env=environment, check=False).returncode


def main() -> int:
    """Run the tests on each database there is; returns 1 if any failed."""
    arguments = sys.argv[1:] or list(TESTS)
    binaries = installed()
    if binaries is None:
        sys.stdout.write("skipped: no PostgreSQL of the system's own (Debian: postgresql)\n")
        return 0
    title = f"PostgreSQL in {binaries.parent}"
    with postgres_server(binaries) as server:
        failed = run_tests(title, server.conninfo, arguments) != 0
        if PROGRAM is None:
            sys.stdout.write("skipped: no PgBouncer (Debian: pgbouncer)\n")
        else:
            # Databases are copied and dropped: no connection of a pool may stay on them.
            with pgbouncer(server, server_lifetime_seconds=0) as url:
                failed |= run_tests(f"{title}, through PgBouncer", url, arguments) != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
