"""``wepeople-ingest usage``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli.help import examples
from service.cli.output import moment, note, print_fields, print_json, print_table, print_text
from service.cli.session import Json, OrganizationName, Session, now_us, run

if TYPE_CHECKING:
    from core.admin.traffic import AppMinute
    from core.admin.usage import Forecast, Usage

HEADERS: Final = (
    "MINUTE (UTC)",
    "REQUESTS",
    "ACCEPTED",
    "REJECTED",
    "MEAN",
    "SLOWEST",
    "APP",
)
EXAMPLES: Final = examples("usage Acme", "usage Acme --minutes 60", "usage Acme --json")


def usage(
    organization: OrganizationName,
    minutes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Also the traffic of each app in the last N minutes, up to 48 hours.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show this month's quota, what is used and left of it, and what was rejected and why.

    The month is the calendar month in UTC. Used are accepted events and snapshots; rejected ones,
    repeated requests and errors cost nothing. The forecast takes the rest of the month to be as the
    month so far.
    """
    _check_minutes(minutes)

    async def work(session: Session) -> tuple[str, Usage, list[AppMinute]]:
        from core.admin import traffic
        from core.admin import usage as usages

        cell, owner = await session.organization(organization)
        month = await usages.read(cell.db, owner.id, now_us())
        recent = []
        if minutes is not None:
            recent = await traffic.recent(cell.db, owner.id, minutes, now_us())
        return owner.name, month, recent

    name, month, recent = run(work)
    if as_json:
        from core.admin import as_json as records

        traffic = {} if minutes is None else {"minutes": list(map(records.app_minute, recent))}
        print_json({**records.usage(name, month), **traffic})
        return
    _print_month(name, month)
    if recent:
        print_text("")
        print_table(HEADERS, list(map(_cells, recent)))
    elif minutes is not None:
        note("There was no traffic in these minutes.")


def _check_minutes(minutes: int | None) -> None:
    from core.journal.traffic import KEPT_MINUTES

    if minutes is not None and minutes > KEPT_MINUTES:
        raise typer.BadParameter(
            f"{minutes} are more than the {KEPT_MINUTES} that are kept", param_hint="'--minutes'"
        )


def _print_month(name: str, month: Usage) -> None:
    print_fields(
        {
            "organization": name,
            "month (UTC)": month.month.strftime("%Y-%m"),
            "quota": "none" if month.quota is None else f"{month.quota:,}",
            "used": f"{month.used:,}",
            "left": "no limit" if month.left is None else f"{month.left:,}",
            "forecast": _forecast(month.forecast),
        }
    )
    if month.rejected:
        print_text("")
        print_table(
            ("REJECTED", "EVENTS", "REQUESTS"),
            [
                (code, f"{refused.events:,}", f"{refused.requests:,}")
                for code, refused in month.rejected.items()
            ],
        )


def _forecast(ahead: Forecast | None) -> str:
    if ahead is None:
        return "none in the first day"
    text = f"{ahead.events:,} by the end of the month"
    if ahead.quota_ends_on is not None:
        text += f", and the quota ends on {ahead.quota_ends_on.isoformat()}"
    return text


def _cells(one: AppMinute) -> Sequence[str]:
    return (
        moment(one.minute),
        f"{one.requests:,}",
        f"{one.accepted:,}",
        f"{one.rejected:,}",
        f"{one.mean_milliseconds:.1f} ms",
        f"{one.slowest_milliseconds:.1f} ms",
        one.app_slug,
    )
