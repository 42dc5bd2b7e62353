"""``wepeople-ingest database``: PostgreSQL's own programs on the embedded database."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from service.cli.entry import FAILED
from service.cli.help import examples
from service.cli.output import note

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAMS: Final = ("pg_amcheck", "pg_dump", "pg_restore", "psql", "reindexdb", "vacuumdb")
# A dump has people's data, and the digests of keys.
PRIVATE_UMASK: Final = 0o077
# Whatever follows the program's name is for the program.
CONTEXT: Final[Mapping[str, Any]] = {
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
}
EXAMPLES: Final = examples(
    "database psql",
    "database pg_dump --format=custom --file=ingest.dump",
    "database pg_restore --dbname=wepeople ingest.dump",
)


def _known(given: str) -> str:
    if given not in PROGRAMS:
        raise typer.BadParameter(f"{given!r} is none of {', '.join(PROGRAMS)}")
    return given


def database(
    program: Annotated[
        str,
        typer.Argument(metavar="PROGRAM", help=f"One of {', '.join(PROGRAMS)}.", callback=_known),
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENTS...", help="The program's own.")
    ] = None,
) -> None:
    """Run a program of PostgreSQL's on the embedded database, beside a running service or not.

    It connects by itself, and files that it makes are for their owner alone. An empty database is
    made first if the data folder has none.
    """
    from psycopg.conninfo import conninfo_to_dict

    from core.postgres.errors import DatabaseUnusableError
    from core.postgres.sessions import forget_libpq_variables
    from service.postgres.embedded import EmbeddedPostgres, installed
    from service.settings import Settings

    settings = Settings.from_environment(os.environ)
    if settings.database_url is not None:
        raise DatabaseUnusableError(
            f"DATABASE_URL is set, so no embedded database is in use: run {program} itself"
        )
    path = installed() / "bin" / program
    forget_libpq_variables()  # they are about another server
    # Ctrl-C is for the program: psql cancels a query by it.
    signal.signal(signal.SIGINT, lambda *_: None)
    with EmbeddedPostgres(settings.data_dir).acquire() as lease:
        given = conninfo_to_dict(lease.conninfo)
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
        way = {variable: str(given[name]) for name, variable in names.items()}
        command = [os.fspath(path), *(arguments or [])]
        done = subprocess.run(command, env={**os.environ, **way}, umask=PRIVATE_UMASK, check=False)
    if done.returncode:
        note(f"{program} ended with status {done.returncode}")
        raise typer.Exit(FAILED)
