"""``wepeople-ingest worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.help import Command, Group, examples
from service.cli.output import moment, note, print_fields, print_json, print_table
from service.cli.session import (
    Json,
    OrganizationName,
    Session,
    WorkerName,
    now_us,
    run,
)

if TYPE_CHECKING:
    from core.admin.worker_activity import Activity
    from core.admin.workers import WorkerDetails

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Workers: the people whom events and snapshots are about."
)


@app.command(
    cls=Command, epilog=examples('worker create Acme --name "Alex Chen" --email alex@acme.example')
)
def create(
    organization: OrganizationName,
    name: Annotated[str, typer.Option(metavar="NAME", help="Display name.")],
    email: Annotated[
        str | None,
        typer.Option(metavar="E", help="E-mail, unique in the organization.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a worker ahead of the first event, so that events can name it by id or e-mail.

    There is no need to: an event that names somebody new by externalId or e-mail makes the worker.
    """
    from core.admin import workers

    async def work(session: Session) -> WorkerDetails:
        cell, owner = await session.organization(organization)
        return await workers.create(cell, owner.id, name, email, now_us())

    _print(run(work), as_json)


@app.command("list", cls=Command)
def list_workers(organization: OrganizationName, as_json: Json = False) -> None:
    """List an organization's workers by name, with what its apps call them."""
    from core import ids
    from core.admin import as_json as records
    from core.admin import workers

    async def work(session: Session) -> list[WorkerDetails]:
        cell, owner = await session.organization(organization)
        return await workers.of_organization(cell.db, owner.id)

    found = run(work)
    if as_json:
        print_json(list(map(records.worker, found)))
    elif not found:
        note("The organization has no workers yet. The first event about somebody makes one.")
    else:
        print_table(
            ("ID", "NAME", "E-MAIL", "CREATED (UTC)", "LINKS"),
            [
                (
                    ids.text(ids.WORKER, worker.id),
                    worker.display_name,
                    worker.email or "",
                    moment(worker.created_at),
                    " ".join(f"{link.app_slug}:{link.external_id}" for link in worker.links),
                )
                for worker in found
            ],
        )


@app.command(cls=Command, epilog=examples("worker show Acme alex@acme.example"))
def show(organization: OrganizationName, worker: WorkerName, as_json: Json = False) -> None:
    """Show a worker: names, links, and events and snapshots in numbers.

    Events are counted among the latest million of the organization.
    """
    from core.admin import as_json as records
    from core.admin import worker_activity, workers

    async def work(session: Session) -> tuple[WorkerDetails, Activity]:
        cell, owner = await session.organization(organization)
        found = await workers.find(cell.db, owner.id, worker)
        return found, await worker_activity.activity(cell.db, owner.id, found.id)

    found, activity = run(work)
    if as_json:
        print_json({**records.worker(found), **records.activity(activity)})
    else:
        print_fields({**_fields(found), **activity_fields(activity)})


@app.command(
    cls=Command,
    epilog=examples(
        'worker rename Acme alex@acme.example "Alex Chen-Smith"',
        'worker rename Acme crm-user-42 "Alex Chen" --email alex@acme.example',
    ),
)
def rename(
    organization: OrganizationName,
    worker: WorkerName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new display name.")],
    email: Annotated[
        str | None,
        typer.Option(metavar="E", help="The new e-mail as well.", show_default=False),
    ] = None,
    no_email: Annotated[
        bool, typer.Option("--no-email", help="Have the worker have no e-mail any more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Rename a worker. Answers to snapshots have the new name at once, on every server.

    An e-mail that is replaced leads to nobody: an event that names it makes a new worker.
    """
    if email is not None and no_email:
        raise typer.BadParameter("not together with --email", param_hint="'--no-email'")
    from msgspec import UNSET

    from core.admin import worker_rename, workers

    async def work(session: Session) -> WorkerDetails:
        cell, owner = await session.organization(organization)
        found = await workers.find(cell.db, owner.id, worker)
        new_email = None if no_email else UNSET if email is None else email
        return await worker_rename.rename(cell, owner.id, found.id, name, new_email)

    _print(run(work), as_json)


def _print(worker: WorkerDetails, as_json: bool) -> None:
    from core.admin import as_json as records

    if as_json:
        print_json(records.worker(worker))
    else:
        print_fields(_fields(worker))


def _fields(worker: WorkerDetails) -> dict[str, object]:
    from core import ids

    links = " ".join(f"{link.app_slug}:{link.external_id}" for link in worker.links)
    others = " ".join(worker.other_emails)
    return {
        "id": ids.text(ids.WORKER, worker.id),
        "name": worker.display_name,
        "e-mail": worker.email or "none",
        **({"also": others} if others else {}),
        "links": links or "none",
        "created (UTC)": moment(worker.created_at),
        **({"erased (UTC)": moment(worker.erased_at)} if worker.erased_at else {}),
    }


def activity_fields(found: Activity) -> dict[str, object]:
    """A worker's activity, for people."""
    from core.admin.worker_activity import MAX_LOOKED_AT
    from core.timestamps import to_datetime

    bound = "" if found.is_whole else f" among the organization's latest {MAX_LOOKED_AT:,}"
    first, last = found.first_event_us, found.last_event_us
    return {
        "events": f"{found.events:,}{bound}",
        "first (UTC)": "none" if first is None else moment(to_datetime(first)),
        "last (UTC)": "none" if last is None else moment(to_datetime(last)),
        "snapshots": f"{found.snapshots:,}",
    }
