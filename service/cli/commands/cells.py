"""``wepeople-ingest cells``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli.help import Command, Group, examples
from service.cli.output import print_fields, print_json, print_table
from service.cli.session import Json, Session, now_us, run

if TYPE_CHECKING:
    from core.admin.cells import CellDetails

STDIN: Final = "-"
MAX_URL_CHARACTERS: Final = 65_536

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Cells: the schemas that organizations live in, in this database or in others.",
)

CellName = Annotated[str, typer.Argument(metavar="NAME", help="The cell's name.")]


@app.command(
    cls=Command,
    epilog=examples(
        "cells add north",
        "cells add south --database-url postgresql://ingest@db2.internal/ingest",
        "cells add east --citus --database-url - < url-of-the-coordinator",
    ),
)
def add(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Up to 30 of a-z 0-9 _; its schema is called so, too."),
    ],
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Another PostgreSQL to make it in. - reads it from standard input, which keeps a "
            "password out of the list of processes.",
            show_default=False,
        ),
    ] = None,
    citus: Annotated[
        bool,
        typer.Option("--citus", help="A distributed schema; the URL is that of the coordinator."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a cell. New organizations go to the open cell with the fewest.

    The servers must reach its database as the URL says. What was interrupted is finished by the
    same command.
    """
    from core.admin import cells

    conninfo = _url_on_stdin() if database_url == STDIN else database_url
    record = cells.new_record(name, conninfo, is_citus=citus)

    async def work(session: Session) -> CellDetails:
        await cells.add(session.db, session.conninfo, record, now_us(), session.cells.actor)
        return await cells.find(session.db, name)

    _print(run(work), as_json)


@app.command("list", cls=Command)
def list_cells(as_json: Json = False) -> None:
    """List the cells, with the number of their organizations. The first is `home`."""
    from core.admin import cells

    found = run(lambda session: cells.list_all(session.db))
    if as_json:
        print_json([_to_json(cell) for cell in found])
    else:
        print_table(
            ("NAME", "STATE", "ORGANIZATIONS", "KIND", "DATABASE"),
            [
                (
                    cell.record.name,
                    _state(cell),
                    f"{cell.organizations:,}",
                    _kind(cell),
                    cell.database,
                )
                for cell in found
            ],
        )


@app.command(cls=Command, epilog=examples("cells close north", "cells close north --open"))
def close(
    name: CellName,
    reopen: Annotated[bool, typer.Option("--open", help="Open it again.")] = False,
    as_json: Json = False,
) -> None:
    """Send new organizations elsewhere. Those in the cell go on as before."""
    from core.admin import cells

    async def work(session: Session) -> CellDetails:
        return await cells.set_closed(
            session.db, name, now_us(), is_closed=not reopen, actor=session.cells.actor
        )

    _print(run(work), as_json)


def _state(cell: CellDetails) -> str:
    return "closed" if cell.record.is_closed else "open"


def _kind(cell: CellDetails) -> str:
    return "citus" if cell.record.is_citus else "postgresql"


def _to_json(cell: CellDetails) -> dict[str, object]:
    return {
        "name": cell.record.name,
        "state": _state(cell),
        "organizations": cell.organizations,
        "kind": _kind(cell),
        "database": cell.database,
    }


def _print(cell: CellDetails, as_json: bool) -> None:
    if as_json:
        print_json(_to_json(cell))
    else:
        print_fields(_to_json(cell))


def _url_on_stdin() -> str:
    given = "" if sys.stdin is None else sys.stdin.read(MAX_URL_CHARACTERS).strip()
    if not given:
        raise typer.BadParameter("there is none on standard input", param_hint="'--database-url'")
    return given
