"""``wepeople-ingest events``: the monitoring timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli import completion
from service.cli.following import follow as follow_until_stopped
from service.cli.following import printer
from service.cli.help import examples
from service.cli.output import (
    json_line,
    moment,
    note,
    print_json,
    print_table,
)
from service.cli.session import Json, OnlyWorker, OrganizationName, Session, run

if TYPE_CHECKING:
    from core.admin.timeline import TimelineEvent

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100_000
HEADERS: Final = (
    "OCCURRED (UTC)",
    "EVENT TYPE",
    "CATEGORY",
    "WORKER",
    "SOURCE",
    "DURATION",
    "METADATA",
)
# While events are followed, what will be the widest is not known.
FOLLOW_WIDTHS: Final = (19, 20, 18, 18, 18, 8)
EXAMPLES: Final = examples(
    "events Acme --follow",
    "events Acme --app crm-hub --worker alex@acme.example --limit 500 --json",
)


def events(
    organization: OrganizationName,
    app_name: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="A",
            help="Only of this app: its id or slug.",
            show_default=False,
            autocompletion=completion.slugs,
        ),
    ] = None,
    worker: OnlyWorker = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_LIMIT, help="How many at most.")
    ] = DEFAULT_LIMIT,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with events as they come, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show an organization's latest events, the latest received first.

    With --follow the order is the other way round, and events that come later follow; with --json
    each is then a document on a line of its own.
    """

    from core.admin import as_json as records

    async def work(session: Session) -> list[TimelineEvent]:
        from core.admin import apps, timeline, workers

        cell, owner = await session.organization(organization)
        selection = timeline.Selection(
            owner.id,
            None if app_name is None else (await apps.find(cell.db, app_name, owner.id)).id,
            None if worker is None else (await workers.find(cell.db, owner.id, worker)).id,
        )
        if follow:
            show = printer(records.event, _event_cells, FOLLOW_WIDTHS, as_json=as_json)
            full = timeline.MAX_EVENTS_A_POLL
            follower = timeline.Follower(selection)
            await follow_until_stopped(follower, cell.db, limit, show, full)
            return []
        return await timeline.newest(cell.db, selection, limit)

    found = run(work)
    if follow:
        return
    if as_json:
        print_json(list(map(records.event, found)))
    elif not found:
        note("There are no such events.")
    else:
        print_table(
            HEADERS,
            [_event_cells(event) for event in found],
        )


def _event_cells(event: TimelineEvent) -> tuple[str, ...]:
    from core.admin import apps

    seconds = event.duration_seconds
    return (
        moment(event.occurred_at),
        event.event_type,
        event.category,
        event.worker_name,
        apps.source(event.app_slug),
        "" if seconds is None else f"{seconds} s",
        json_line(event.metadata),
    )
