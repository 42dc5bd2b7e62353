"""``wepeople-ingest app``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import completion
from service.cli.help import Command, Group, examples
from service.cli.output import moment, note, print_fields, print_json, print_table
from service.cli.removing import DryRun, Yes, ask_for_name, extent_fields, print_removal
from service.cli.session import AppName, Json, OrganizationName, Session, now_us, run

if TYPE_CHECKING:
    from uuid import UUID

    from core.admin.apps import App
    from core.admin.cell_sessions import CellSession
    from core.admin.removal import Extent

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Apps: an organization's integrations and what each may send.",
)

EventTypes = Annotated[
    list[str], typer.Argument(metavar="TYPE...", help="Event types, like ticket.resolved.")
]


@app.command(
    cls=Command,
    epilog=examples(
        'app create Acme crm-hub --name "CRM Hub" --allow ticket.created ticket.resolved',
        'app create Acme crm-hub --name "CRM Hub" --allow ticket.created --allow deal.won',
    ),
)
def create(
    organization: OrganizationName,
    slug: Annotated[
        str,
        typer.Argument(
            metavar="SLUG",
            help="Short name, unique in the organization; its events have source custom:SLUG.",
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name for people.")],
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE...", help="Event types it may send.", show_default=False),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    as_json: Json = False,
) -> None:
    """Make an app. It may send the event types that are allowed, and no others."""
    if more and not allow:
        raise typer.BadParameter(f"{' '.join(more)!r} is one too many; event types go with --allow")
    from core.admin import apps

    types = _split([*(allow or ()), *(more or ())])

    async def work(session: Session) -> App:
        cell, owner = await session.organization(organization)
        return await apps.create(cell, owner, slug, name, types, now_us())

    made = run(work)
    _print(made, as_json)
    if not as_json and not types:
        note(f"It may not send anything yet: wepeople-ingest app allow {slug} TYPE...")


@app.command("list", cls=Command)
def list_apps(
    organization: Annotated[
        str | None,
        typer.Argument(
            metavar="ORG",
            help="Only this organization's: its id or name.",
            show_default=False,
            autocompletion=completion.organizations,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List apps: of one organization, or of all."""
    from core import ids
    from core.admin import apps
    from core.admin import as_json as records

    async def work(session: Session) -> list[App]:
        if organization is None:
            return await apps.list_everywhere(session.cells)
        cell, owner = await session.organization(organization)
        return await apps.of_organization(cell.db, owner.id)

    found = run(work)
    if as_json:
        print_json(list(map(records.app, found)))
    elif not found:
        note("There are no apps yet. Make one: wepeople-ingest app create ORG SLUG --name NAME")
    else:
        print_table(
            ("ID", "ORGANIZATION", "SLUG", "NAME", "ALLOWED EVENT TYPES"),
            [
                (
                    ids.text(ids.APP, one.id),
                    one.organization_name,
                    one.slug,
                    one.name,
                    " ".join(one.allowed_event_types),
                )
                for one in found
            ],
        )


@app.command(cls=Command, epilog=examples("app allow crm-hub deal.won call.finished"))
def allow(app_name: AppName, event_types: EventTypes, as_json: Json = False) -> None:
    """Put event types on an app's whitelist. In force on every server within a second."""
    from core.admin import whitelist

    _change(app_name, event_types, whitelist.allow, as_json)


@app.command(cls=Command, epilog=examples("app deny crm-hub deal.won"))
def deny(app_name: AppName, event_types: EventTypes, as_json: Json = False) -> None:
    """Take event types off an app's whitelist. In force on every server within a second.

    If one of them is not on it, nothing is changed.
    """
    from core.admin import whitelist

    _change(app_name, event_types, whitelist.deny, as_json)


@app.command(cls=Command, epilog=examples("app remove crm-hub --dry-run", "app remove crm-hub"))
def remove(
    app_name: AppName, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Remove an app with its keys, events and snapshots. There is no way back.

    While one of its keys works, it asks for the app's slug, or takes --yes. The people stay.
    """
    from core.admin import removal

    async def count(session: Session) -> tuple[App, Extent]:
        cell, found = await session.app(app_name)
        extent = await removal.extent(cell.db, found.organization_id, now_us(), found.id)
        return found, extent

    async def work(session: Session) -> None:
        cell, found = await session.app(app_name)
        await removal.remove_app(cell, found, now_us())

    found, extent = run(count)
    if not dry_run and not yes and extent.working_keys:
        ask_for_name(found.slug, extent_fields(extent))
    if not dry_run:
        run(work)
    name = f"{found.organization_name}/{found.slug}"
    print_removal({"app": name}, extent, as_json, is_done=not dry_run)


def _change(
    app_name: str,
    event_types: list[str],
    change: Callable[[CellSession, UUID, UUID, Iterable[str]], Awaitable[list[str]]],
    as_json: bool,
) -> None:
    from msgspec import structs

    async def work(session: Session) -> App:
        cell, found = await session.app(app_name)
        types = await change(cell, found.organization_id, found.id, _split(event_types))
        return structs.replace(found, allowed_event_types=types)

    _print(run(work), as_json)


def _split(given: Iterable[str]) -> list[str]:
    # Commas are no part of a type, so whoever separates by them is understood too.
    return [part for text in given for part in text.split(",") if part]


def _print(app: App, as_json: bool) -> None:
    from core import ids
    from core.admin import apps
    from core.admin import as_json as records

    if as_json:
        print_json(records.app(app))
        return
    print_fields(
        {
            "id": ids.text(ids.APP, app.id),
            "organization": app.organization_name,
            "slug": app.slug,
            "name": app.name,
            "source": apps.source(app.slug),
            "allowed types": " ".join(app.allowed_event_types) or "none",
            "created (UTC)": moment(app.created_at),
        }
    )
