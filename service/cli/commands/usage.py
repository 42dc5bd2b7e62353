"""``wepeople-ingest usage``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.cli.help import examples
from service.cli.output import print_fields, print_json, print_table, print_text
from service.cli.session import Json, OrganizationName, Session, now_us, run

if TYPE_CHECKING:
    from core.admin.usage import Usage

EXAMPLES: Final = examples("usage Acme", "usage Acme --json")


def usage(organization: OrganizationName, as_json: Json = False) -> None:
    """Show this month's quota, what is used and left of it, and what was rejected and why.

    The month is the calendar month in UTC. Used are accepted events and snapshots; rejected ones,
    repeated requests and errors cost nothing.
    """
    from core.admin import usage as usages

    async def work(session: Session) -> tuple[str, Usage]:
        cell, owner = await session.organization(organization)
        return owner.name, await usages.read(cell.db, owner.id, now_us())

    name, month = run(work)
    if as_json:
        print_json(
            {
                "organization": name,
                "month": month.month.strftime("%Y-%m"),
                "quota": month.quota,
                "used": month.used,
                "left": month.left,
                "accepted": month.used,
                "rejected": {
                    code: {"events": refused.events, "requests": refused.requests}
                    for code, refused in month.rejected.items()
                },
            }
        )
        return
    print_fields(
        {
            "organization": name,
            "month (UTC)": month.month.strftime("%Y-%m"),
            "quota": "none" if month.quota is None else f"{month.quota:,}",
            "used": f"{month.used:,}",
            "left": "no limit" if month.left is None else f"{month.left:,}",
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
