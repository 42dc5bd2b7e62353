"""``wepeople-ingest worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.help import Command, Group, examples
from service.cli.output import moment, note, print_fields, print_json, print_table
from service.cli.session import Json, OrganizationName, Session, now_us, run

if TYPE_CHECKING:
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
    from core.admin import as_json as records
    from core.admin import workers

    async def work(session: Session) -> WorkerDetails:
        cell, owner = await session.organization(organization)
        return await workers.create(cell, owner.id, name, email, now_us())

    made = run(work)
    if as_json:
        print_json(records.worker(made))
        return
    from core import ids

    print_fields(
        {
            "id": ids.text(ids.WORKER, made.id),
            "name": made.display_name,
            "e-mail": made.email or "none",
            "created (UTC)": moment(made.created_at),
        }
    )


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
