"""``wepeople-ingest producer``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli.help import Command, Group, examples
from service.cli.output import moment, note, print_fields, print_json, print_table
from service.cli.session import Json, OrganizationName, Session, now_us, run

if TYPE_CHECKING:
    from uuid import UUID

    from core.admin.cell_sessions import CellSession
    from core.admin.organizations import Organization
    from core.admin.producers import Producer

DEFAULT_LIMIT: Final = 100

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Producers: how far exactly-once streams have come.",
)

OnlyApp = Annotated[
    str | None,
    typer.Option("--app", metavar="APP", help="Only of this app.", show_default=False),
]


@app.command("list", cls=Command, epilog=examples("producer list Acme --app crm-hub"))
def list_producers(
    organization: OrganizationName,
    app_name: OnlyApp = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = DEFAULT_LIMIT,
    as_json: Json = False,
) -> None:
    """List an organization's producers, those opened last before the others.

    One expires when no stream has been opened for it for long, and begins at 0 then.
    """
    from core.admin import producers

    async def work(session: Session) -> list[Producer]:
        cell, owner = await session.organization(organization)
        app_id = await _app_id(cell, owner, app_name)
        return await producers.latest(cell.db, owner.id, app_id, now_us(), limit)

    found = run(work)
    if as_json:
        print_json([_to_json(one) for one in found])
    elif not found:
        note("There are no producers. A stream that is opened with a producer_id makes one.")
    else:
        columns = ("APP", "SEQUENCE", "ACCEPTED", "REJECTED", "OPENED (UTC)", "EXPIRES (UTC)")
        print_table(
            (*columns, "PRODUCER"),
            [
                (
                    one.app_slug,
                    f"{one.sequence:,}",
                    f"{one.accepted:,}",
                    f"{one.rejected:,}",
                    moment(one.opened_at),
                    moment(one.expires_at),
                    one.producer_id,
                )
                for one in found
            ],
        )


@app.command(cls=Command, epilog=examples("producer forget Acme warehouse-7 --app crm-hub"))
def forget(
    organization: OrganizationName,
    producer: Annotated[str, typer.Argument(metavar="PRODUCER", help="Its producer_id.")],
    app_name: OnlyApp = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also if a stream of it may be open, which is ended.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Have a producer begin anew at sequence 0.

    DANGER: what its client has sent before, and sends again, is stored twice. Have the client
    begin anew, too.
    """
    from core.admin import producers

    async def work(session: Session) -> Producer:
        cell, owner = await session.organization(organization)
        app_id = await _app_id(cell, owner, app_name)
        found = await producers.find(cell.db, owner.id, app_id, producer, now_us())
        await producers.forget(cell, owner.id, found, now_us(), in_use=force)
        return found

    gone = run(work)
    if as_json:
        print_json({**_to_json(gone), "forgotten": True})
    else:
        print_fields(
            {
                "app": gone.app_slug,
                "producer": gone.producer_id,
                "last sequence": f"{gone.sequence:,}",
                "forgotten": "yes: it begins at 0",
            }
        )


async def _app_id(cell: CellSession, owner: Organization, name: str | None) -> UUID | None:
    from core.admin import apps

    return None if name is None else (await apps.find(cell.db, name, owner.id)).id


def _to_json(producer: Producer) -> dict[str, object]:
    from core.admin import as_json as records

    return {
        "app": producer.app_slug,
        "producer": producer.producer_id,
        "lastSequence": producer.sequence,
        "accepted": producer.accepted,
        "rejected": producer.rejected,
        "openedAt": records.moment(producer.opened_at),
        "expiresAt": records.moment(producer.expires_at),
    }
