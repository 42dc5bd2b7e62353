"""``wepeople-ingest org``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.help import Command, Group, examples
from service.cli.output import moment, note, print_fields, print_json, print_table
from service.cli.session import Json, OrganizationName, Session, now_us, parse_quota, run, to_text

if TYPE_CHECKING:
    from core.admin.organizations import Organization

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
    as_json: Json = False,
) -> None:
    """Make an organization. Without --quota it has none."""
    from core import limits
    from core.admin import organizations

    monthly_quota = parse_quota(quota)
    made = run(
        lambda session: organizations.create(
            session.db,
            name,
            now_us(),
            monthly_quota=monthly_quota,
            developer_api=developer_api,
            requests_per_second=rate or limits.DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND,
        )
    )
    _print(made, as_json)


@app.command("list", cls=Command)
def list_all(as_json: Json = False) -> None:
    """List all organizations, by name."""
    from core import ids
    from core.admin import organizations

    found = run(lambda session: organizations.list_all(session.db))
    if as_json:
        print_json([to_json(organization) for organization in found])
    elif not found:
        note("There are no organizations yet. Make one: wepeople-ingest org create NAME")
    else:
        print_table(
            ("ID", "DEVELOPER API", "QUOTA", "RATE", "CREATED (UTC)", "NAME"),
            [
                (
                    ids.text(ids.ORGANIZATION, organization.id),
                    "on" if organization.developer_api else "off",
                    _quota(organization),
                    f"{organization.requests_per_second}/s",
                    moment(organization.created_at),
                    organization.name,
                )
                for organization in found
            ],
        )


@app.command(cls=Command)
def show(organization: OrganizationName, as_json: Json = False) -> None:
    """Show one organization."""
    _print(run(lambda session: session.organization(organization)), as_json)


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

    async def work(session: Session) -> Organization:
        return await organizations.update(
            session.db,
            (await session.organization(organization)).id,
            name=name,
            developer_api=developer_api,
            monthly_quota=monthly_quota,
            requests_per_second=rate,
        )

    _print(run(work), as_json)


def to_json(organization: Organization) -> dict[str, object]:
    """An organization as scripts get it."""
    from core import ids

    return {
        "id": ids.text(ids.ORGANIZATION, organization.id),
        "name": organization.name,
        "developerApi": organization.developer_api,
        "monthlyQuota": organization.monthly_quota,
        "requestsPerSecond": organization.requests_per_second,
        "createdAt": to_text(organization.created_at),
    }


def _quota(organization: Organization) -> str:
    quota = organization.monthly_quota
    return "none" if quota is None else f"{quota:,}"


def _print(organization: Organization, as_json: bool) -> None:
    from core import ids

    if as_json:
        print_json(to_json(organization))
        return
    print_fields(
        {
            "id": ids.text(ids.ORGANIZATION, organization.id),
            "name": organization.name,
            "developer API": "on" if organization.developer_api else "off",
            "monthly quota": _quota(organization),
            "rate limit": f"{organization.requests_per_second} requests/s",
            "created (UTC)": moment(organization.created_at),
        }
    )
