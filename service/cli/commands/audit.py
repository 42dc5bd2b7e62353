"""``wepeople-ingest audit``: who changed what, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from service.cli import completion
from service.cli.following import follow as follow_until_stopped
from service.cli.following import printer
from service.cli.help import examples
from service.cli.output import moment, note, print_json, print_table
from service.cli.session import Follow, Json, Session, run

if TYPE_CHECKING:
    from core.admin.audit import AuditEntry

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1_000
HEADERS: Final = ("TIME (UTC)", "BY", "ACTION", "ORGANIZATION", "SUBJECT", "CHANGE")
FOLLOW_WIDTHS: Final = (19, 12, 13, 16, 30)
EXAMPLES: Final = examples("audit", "audit Acme --limit 10 --json", "audit --follow")


def audit(
    organization: Annotated[
        str | None,
        typer.Argument(
            metavar="ORG",
            help="Only of this organization: its id or its name, also of one that is gone.",
            show_default=False,
            autocompletion=completion.organizations,
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_LIMIT, help="How many at most.")
    ] = DEFAULT_LIMIT,
    follow: Follow = False,
    as_json: Json = False,
) -> None:
    """Show the changes that operators have made, the latest first.

    They are kept for 400 days. With --follow the order is the other way round; with --json each is
    then a document on a line.
    """

    from core.admin.as_json import audit_entry

    async def work(session: Session) -> list[AuditEntry]:
        from core.admin import audit as entries

        selection = await entries.select(session.db, organization)
        if follow:
            show = printer(audit_entry, _cells, FOLLOW_WIDTHS, as_json=as_json)
            await follow_until_stopped(entries.Follower(selection), session.db, limit, show)
            return []
        return await entries.newest(session.db, selection, limit)

    found = run(work)
    if follow:
        return
    if as_json:
        print_json(list(map(audit_entry, found)))
    elif found:
        print_table(HEADERS, [_cells(one) for one in found])
    else:
        note("Nothing has been changed.")


def _cells(one: AuditEntry) -> tuple[str, ...]:
    return (
        moment(one.at),
        one.actor or one.hand,
        one.action,
        one.organization_name or "",
        one.subject,
        f"{_difference(one.before or {}, one.after or {})}{'' if one.is_done else ' (begun)'}",
    )


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The values that are not the same: ``name: a -> b``, and of lists what came and went."""
    parts = []
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old or new, list):
            gone = [f"-{one}" for one in old or () if one not in (new or ())]
            come = [f"+{one}" for one in new or () if one not in (old or ())]
            parts.append(f"{name}: {' '.join(gone + come)}")
        elif name not in before:
            parts.append(f"{name}: {_value(new)}")
        else:
            parts.append(f"{name}: {_value(old)} -> {_value(new)}")
    return ", ".join(parts)


def _value(value: object) -> str:
    names = {None: "none", True: "yes", False: "no"}
    return names[value] if value is None or isinstance(value, bool) else str(value)
