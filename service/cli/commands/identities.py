"""``wepeople-ingest worker merge`` and ``worker erase``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.commands.workers import activity_fields
from service.cli.help import Command, examples
from service.cli.output import print_fields, print_json
from service.cli.removing import DryRun, Yes, ask_for_name
from service.cli.session import Json, OrganizationName, Session, WorkerName, now_us, run

if TYPE_CHECKING:
    from core.admin.erasure import Erased
    from core.admin.worker_activity import Activity
    from core.admin.worker_merge import Moved
    from core.admin.workers import WorkerDetails


def add_to(app: typer.Typer) -> None:
    """Add the commands to those about workers."""
    app.command(
        cls=Command,
        epilog=examples("worker merge Acme crm-user-42 alex@acme.example --dry-run"),
    )(merge)
    app.command(
        cls=Command,
        epilog=examples(
            "worker erase Acme alex@acme.example --dry-run",
            "worker erase Acme alex@acme.example --yes --json",
        ),
    )(erase)


def merge(
    organization: OrganizationName,
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="The worker that goes: as W of `worker show`.")
    ],
    into: Annotated[
        str, typer.Argument(metavar="INTO", help="The worker that stays, the same person.")
    ],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Merge two workers who are one person. There is no way back.

    INTO gets the events, snapshots and links of FROM. What names FROM, by id, e-mail or
    externalId, is about INTO from then on. Interrupted, it is run again with the same ids.
    """
    from core import ids
    from core.admin import as_json as records
    from core.admin import worker_activity, worker_merge, workers
    from core.admin.errors import InvalidValueError

    async def look(session: Session) -> tuple[WorkerDetails, WorkerDetails, Activity]:
        cell, owner = await session.organization(organization)
        going = await workers.find(cell.db, owner.id, source, follow=False)
        staying = await workers.find(cell.db, owner.id, into)
        if going.id == staying.id:
            raise InvalidValueError(f"{source!r} and {into!r} are the same worker already")
        return going, staying, await worker_activity.activity(cell.db, owner.id, going.id)

    going, staying, activity = run(look)
    named = {"from": ids.text(ids.WORKER, going.id), "into": ids.text(ids.WORKER, staying.id)}
    if not dry_run and not yes:
        people = {"from": going.display_name, "into": staying.display_name}
        goes = {**people, "links": len(going.links), **activity_fields(activity)}
        ask_for_name(going.display_name, goes, f"merge it into {staying.display_name}")
    if dry_run:
        _print_merge(named, len(going.links), activity, as_json)
        return

    async def work(session: Session) -> Moved:
        cell, owner = await session.organization(organization)
        return await worker_merge.merge(cell, owner.id, going.id, staying.id)

    moved = run(work)
    if as_json:
        print_json(records.merged(going.id, staying.id, moved))
    else:
        counted = {
            "links": f"{moved.links:,}",
            "events": f"{moved.events:,}",
            "snapshots": f"{moved.snapshots:,}",
        }
        print_fields({**named, "merged": "yes", **counted})


def _print_merge(named: dict[str, str], links: int, activity: Activity, as_json: bool) -> None:
    if as_json:
        from core.admin import as_json as records

        print_json({**named, "merged": False, "links": links, **records.activity(activity)})
    else:
        print_fields({**named, "merged": "no", "links": f"{links:,}", **activity_fields(activity)})


def erase(
    organization: OrganizationName,
    worker: WorkerName,
    keep_content: Annotated[
        bool,
        typer.Option(
            "--keep-content",
            help="Keep metadata, and texts among metrics: only if they tell of nobody.",
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Erase a person's data, and show a receipt. There is no way back.

    Name, e-mails and links go, and with them the metadata of events and snapshots and the texts
    among metrics. Events and numbers stay, of a nameless worker. What names the person later is
    about somebody new. Interrupted, it is run again with the worker's id.
    """
    from core import ids
    from core.admin import as_json as records
    from core.admin import erasure, worker_activity, workers

    async def look(session: Session) -> tuple[WorkerDetails, Activity]:
        cell, owner = await session.organization(organization)
        found = await workers.find(cell.db, owner.id, worker)
        return found, await worker_activity.activity(cell.db, owner.id, found.id)

    found, activity = run(look)
    subject = ids.text(ids.WORKER, found.id)
    goes = {"worker": subject, "links": f"{len(found.links):,}", **activity_fields(activity)}
    if not dry_run and not yes:
        ask_for_name(found.display_name, goes, "erase the person")
    if dry_run:
        links = {"worker": subject, "erased": False, "links": len(found.links)}
        if as_json:
            print_json({**links, **records.activity(activity)})
        else:
            print_fields({**goes, "erased": "no"})
        return

    async def work(session: Session) -> Erased:
        cell, owner = await session.organization(organization)
        return await erasure.erase(cell, owner.id, found.id, now_us(), keep_content=keep_content)

    erased = run(work)
    if as_json:
        print_json(records.erased(found.id, erased, content_kept=keep_content))
    else:
        _print_receipt(subject, erased, keep_content)


def _print_receipt(subject: str, erased: Erased, kept: bool) -> None:
    of_content = "kept" if kept else f"erased, of {erased.event_contents:,}"
    print_fields(
        {
            "worker": subject,
            "erased": "yes",
            "names": f"{erased.names:,}",
            "e-mails": f"{erased.emails:,}",
            "links": f"{erased.links:,}",
            "content of events": of_content,
            "content of snapshots": "kept" if kept else f"erased, of {erased.snapshot_contents:,}",
            "names in stored answers": f"{erased.idempotency_receipts:,}",
            "content of rejections": f"{erased.rejected_items:,}, whoever it was about",
        }
    )
