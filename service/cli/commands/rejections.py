"""``wepeople-ingest rejections``: why requests and events were refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli import completion
from service.cli.following import follow as follow_until_stopped
from service.cli.following import printer
from service.cli.help import examples
from service.cli.output import (
    moment,
    note,
    print_json,
    print_table,
)
from service.cli.session import Follow, Json, OrganizationName, Session, run

if TYPE_CHECKING:
    from core.admin.cell_sessions import CellSession
    from core.admin.rejections import RejectionRecord, Selection

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1_000  # that many are kept
HEADERS: Final = ("TIME (UTC)", "REQUEST", "ITEM", "CODE", "APP", "KEY", "MESSAGE")
FOLLOW_WIDTHS: Final = (19, 30, 4, 20, 12, 5)
EXAMPLES: Final = examples(
    "rejections Acme --follow",
    "rejections Acme --request req_01K2Z8Y4N0B6W7TQ4M6C5D3E2F",
    "rejections Acme --code forbidden_event_type --app crm-hub --json",
)


def rejections(
    organization: OrganizationName,
    code: Annotated[
        str | None,
        typer.Option(metavar="C", help="Only with this error code.", show_default=False),
    ] = None,
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
    request_id: Annotated[
        str | None,
        typer.Option(
            "--request",
            metavar="ID",
            help="Only of the request with this id, as the client was told it.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_LIMIT, help="How many at most.")
    ] = DEFAULT_LIMIT,
    follow: Follow = False,
    as_json: Json = False,
) -> None:
    """Show why an organization's requests and events were refused, the latest first.

    The last 1,000 are kept. Requests over the rate limit are only counted: see `usage`. With
    --follow the order is the other way round; with --json each is then a document on a line.
    """
    from core.admin import rejections as records
    from core.admin.as_json import rejection

    async def work(session: Session) -> list[RejectionRecord]:
        cell, selection = await _select(session, organization, code, app_name, request_id)
        if follow:
            show = printer(rejection, _cells, FOLLOW_WIDTHS, as_json=as_json)
            await follow_until_stopped(records.Follower(selection), cell.db, limit, show)
            return []
        return await records.newest(cell.db, selection, limit)

    found = run(work)
    if follow:
        return
    _show(found, request_id, as_json=as_json)


async def _select(
    session: Session,
    organization: str,
    code: str | None,
    app_name: str | None,
    request_id: str | None,
) -> tuple[CellSession, Selection]:
    from core.admin import apps
    from core.admin import rejections as records

    cell, owner = await session.organization(organization)
    selection = records.Selection(
        owner.id,
        None if code is None else records.check_code(code),
        None if app_name is None else (await apps.find(cell.db, app_name, owner.id)).slug,
        request_id,
    )
    return cell, selection


def _show(found: Sequence[RejectionRecord], request_id: str | None, *, as_json: bool) -> None:
    if as_json:
        from core.admin.as_json import rejection

        print_json(list(map(rejection, found)))
    elif found:
        print_table(HEADERS, [_cells(one) for one in found])
    else:
        note(_nothing(request_id))


def _nothing(request_id: str | None) -> str:
    if request_id is None:
        return "There are no such rejections."
    return (
        f"Nothing of {request_id} was refused among the last 1,000 rejections. It may be "
        "another organization's, or have been refused for its rate, which is only counted."
    )


def _cells(one: RejectionRecord) -> tuple[str, ...]:
    from core.timestamps import to_datetime

    return (
        moment(to_datetime(one.received_us)),
        one.request_id,
        "" if one.index is None else str(one.index),
        one.code,
        one.app_slug,
        f"…{one.key_hint}",
        one.message,
    )
