"""``wepeople-ingest org``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.help import Command, Group, examples
from service.cli.output import moment, note, print_fields, print_json, print_table
from service.cli.removing import DryRun, Yes, ask_for_name, extent_fields, print_removal
from service.cli.session import Json, OrganizationName, Session, now_us, parse_quota, run

if TYPE_CHECKING:
    from core.admin.organizations import Organization
    from core.admin.removal import Extent
    from core.postgres.directory import CellRecord

    # And its cell, where there are several.
    Placed = tuple[Organization, str | None]

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Organizations: the tenants of the service."
)

Quota = Annotated[
    str | None,
    typer.Option(
        metavar="N|none", help="Events a calendar month (UTC), or none.", show_default=False
    ),
]
Rate = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Requests a second of all its keys together; 600 if never set.",
        show_default=False,
    ),
]


@app.command(
    cls=Command,
    epilog=examples("org create Acme --quota 100000", 'org create "Acme Labs" --quota none --json'),
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="1 to 200 characters, unique.")],
    quota: Quota = None,
    developer_api: Annotated[
        bool,
        typer.Option(
            "--developer-api/--no-developer-api", help="Whether the plan includes the API."
        ),
    ] = True,
    rate: Rate = None,
    cell: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The cell to live in, for good; if not given, the open one with the fewest.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an organization. Without --quota it has none."""
    from core import limits
    from core.admin import organizations

    monthly_quota = parse_quota(quota)

    async def work(session: Session) -> Placed:
        place, made = await organizations.create_anywhere(
            session.cells,
            name,
            now_us(),
            cell,
            monthly_quota=monthly_quota,
            developer_api=developer_api,
            requests_per_second=rate or limits.DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND,
        )
        return made, await session.cells.shown_name(place.record)

    _print(*run(work), as_json)


@app.command("list", cls=Command)
def list_all(as_json: Json = False) -> None:
    """List all organizations, by name."""
    from core import ids
    from core.admin import as_json as records
    from core.admin import organizations
    from core.postgres.directory import list_cells

    async def work(session: Session) -> tuple[bool, list[tuple[CellRecord, Organization]]]:
        several = len(await list_cells(session.db)) > 1
        return several, await organizations.list_everywhere(session.cells)

    several, found = run(work)
    if as_json:
        print_json(
            [records.organization(one, cell.name if several else None) for cell, one in found]
        )
    elif not found:
        note("There are no organizations yet. Make one: wepeople-ingest org create NAME")
    else:
        cell_header = ("CELL",) if several else ()
        print_table(
            ("ID", "DEVELOPER API", "QUOTA", "RATE", "CREATED (UTC)", *cell_header, "NAME"),
            [
                (
                    ids.text(ids.ORGANIZATION, organization.id),
                    "on" if organization.developer_api else "off",
                    _quota(organization),
                    f"{organization.requests_per_second}/s",
                    moment(organization.created_at),
                    *((cell.name,) if several else ()),
                    organization.name,
                )
                for cell, organization in found
            ],
        )


@app.command(cls=Command)
def show(organization: OrganizationName, as_json: Json = False) -> None:
    """Show one organization."""

    async def work(session: Session) -> Placed:
        cell, found = await session.organization(organization)
        return found, await session.cells.shown_name(cell.record)

    _print(*run(work), as_json)


@app.command(
    cls=Command,
    epilog=examples("org update Acme --quota 500000", "org update Acme --no-developer-api"),
)
def update(
    organization: OrganizationName,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="A new name.", show_default=False)
    ] = None,
    quota: Quota = None,
    developer_api: Annotated[
        bool | None,
        typer.Option(
            "--developer-api/--no-developer-api",
            help="Whether the plan includes the API.",
            show_default=False,
        ),
    ] = None,
    rate: Rate = None,
    as_json: Json = False,
) -> None:
    """Change an organization. In force on every running server within a second.

    What is not given stays as it is.
    """
    if (name, quota, developer_api, rate) == (None, None, None, None):
        raise typer.BadParameter(
            "nothing to change: give one of --name, --quota, --[no-]developer-api, --rate"
        )
    from msgspec import UNSET

    from core.admin import organizations

    monthly_quota = UNSET if quota is None else parse_quota(quota)

    async def work(session: Session) -> Placed:
        cell, found = await session.organization(organization)
        changed = await organizations.update(
            cell,
            found.id,
            name=name,
            developer_api=developer_api,
            monthly_quota=monthly_quota,
            requests_per_second=rate,
        )
        return changed, await session.cells.shown_name(cell.record)

    _print(*run(work), as_json)


@app.command(cls=Command, epilog=examples("org remove Acme --dry-run", "org remove Acme"))
def remove(
    organization: OrganizationName,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove an organization with all it has: apps, keys, people, events. There is no way back.

    It is shut out first. If the command is interrupted, run it again to finish.
    """
    from core.admin import removal

    async def count(session: Session) -> tuple[Organization, Extent]:
        cell, found = await session.organization(organization)
        return found, await removal.extent(cell.db, found.id, now_us())

    async def work(session: Session) -> None:
        cell, found = await session.organization(organization)
        await removal.remove_organization(cell, found.id)

    owner, extent = run(count)
    if not dry_run and not yes:
        ask_for_name(owner.name, extent_fields(extent))
    if not dry_run:
        run(work)
    print_removal({"organization": owner.name}, extent, as_json, is_done=not dry_run)


def _quota(organization: Organization) -> str:
    quota = organization.monthly_quota
    return "none" if quota is None else f"{quota:,}"


def _print(organization: Organization, cell: str | None, as_json: bool) -> None:
    from core import ids
    from core.admin import as_json as records

    if as_json:
        print_json(records.organization(organization, cell))
        return
    print_fields(
        {
            "id": ids.text(ids.ORGANIZATION, organization.id),
            "name": organization.name,
            "developer API": "on" if organization.developer_api else "off",
            "monthly quota": _quota(organization),
            "rate limit": f"{organization.requests_per_second} requests/s",
            "created (UTC)": moment(organization.created_at),
            **({} if cell is None else {"cell": cell}),
        }
    )
