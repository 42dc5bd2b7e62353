"""``wepeople-ingest snapshots``: metric cards, the current ones and their history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli.help import examples
from service.cli.output import json_line, moment, note, print_json, print_table
from service.cli.session import Json, OnlyWorker, OrganizationName, Session, run

if TYPE_CHECKING:
    from core.admin.snapshots import StoredSnapshot

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100_000
EXAMPLES: Final = examples(
    "snapshots Acme", "snapshots Acme --worker crm-user-42", "snapshots Acme --history --json"
)


def snapshots(
    organization: OrganizationName,
    worker: OnlyWorker = None,
    history: Annotated[
        bool, typer.Option("--history", help="Those replaced since too, the latest first.")
    ] = False,
    limit: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=MAX_LIMIT, help="With --history: how many at most."),
    ] = DEFAULT_LIMIT,
    as_json: Json = False,
) -> None:
    """Show the current snapshot cards of an organization or of one worker."""

    async def work(session: Session) -> list[StoredSnapshot]:
        from core.admin import snapshots as stored
        from core.admin import workers

        cell, owner = await session.organization(organization)
        found = None if worker is None else await workers.find(cell.db, owner.id, worker)
        worker_id = None if found is None else found.id
        if history:
            return await stored.history(cell.db, owner.id, worker_id, limit)
        return await stored.cards(cell.db, owner.id, worker_id)

    found = run(work)
    if as_json:
        from core.admin import as_json as records

        print_json(list(map(records.snapshot, found)))
    elif not found:
        note("There are no such snapshots.")
    else:
        _print_snapshots(found, history)


def _print_snapshots(found: list[StoredSnapshot], history: bool) -> None:
    from core.admin import apps

    print_table(
        (
            "OCCURRED (UTC)",
            "WORKER",
            "TYPE",
            "SOURCE",
            *(("CURRENT",) if history else ()),
            "METRICS",
        ),
        [
            (
                moment(snapshot.occurred_at),
                snapshot.worker_name,
                snapshot.snapshot_type,
                apps.source(snapshot.app_slug),
                *(("yes" if snapshot.is_card else "",) if history else ()),
                json_line(snapshot.metrics),
            )
            for snapshot in found
        ],
    )
