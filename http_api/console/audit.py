"""The audit log, of everything or of one organization."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, Request, Response

from core.admin import audit
from core.admin.audit import AuditEntry, Selection
from core.admin.errors import InvalidValueError
from http_api.console import organizations
from http_api.console.query import given
from http_api.console.rendering import address, page
from http_api.console.security import Reader
from http_api.paths import READING

PAGE_ENTRIES: Final = 50
_LARGEST: Final = 1 << 62

router = APIRouter()


class Difference(NamedTuple):
    """A member that a change has changed, as JSON; None where there was none."""

    name: str
    before: str | None
    after: str | None


class Shown(NamedTuple):
    """An entry of the log, with what it changed."""

    entry: AuditEntry
    differences: Sequence[Difference]


@router.api_route("/audit", methods=READING)
async def show_all(request: Request, visit: Reader) -> Response:
    """Show the changes of everything."""
    async with visit.desk.home() as home:
        found = await audit.newest(home, Selection(), PAGE_ENTRIES + 1, before=_before(request))
    return page(request, "audit.html.jinja", **_values(request, found))


@router.api_route(f"{organizations.PATH}/{{organization_id}}/audit", methods=READING)
async def show_audit(request: Request, organization_id: str, visit: Reader) -> Response:
    """Show the changes of an organization."""
    before = _before(request)
    async with visit.cells() as cells:
        _, organization = await organizations.find(cells, organization_id)
        found = await audit.newest(
            cells.home, Selection(organization.id), PAGE_ENTRIES + 1, before=before
        )
    return page(
        request,
        "organization_audit.html.jinja",
        organization=organization,
        here=organizations.path_of(organization),
        tab="audit",
        **_values(request, found),
    )


def _before(request: Request) -> int | None:
    text = given(request, "before")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and int(text[:20]) < _LARGEST):
        raise InvalidValueError(f"before: {text!r} is no entry of the log")
    return int(text)


def _values(request: Request, found: Sequence[AuditEntry]) -> dict[str, Any]:
    shown = found[:PAGE_ENTRIES]
    is_more = len(found) > PAGE_ENTRIES
    return {
        "entries": [Shown(one, differences(one)) for one in shown],
        "older": address(request, before=str(shown[-1].number)) if is_more else None,
        "newest": address(request, before=None) if given(request, "before") else None,
    }


def differences(entry: AuditEntry) -> list[Difference]:
    """Return the members that are not after the change as they were before it."""
    before, after = entry.before or {}, entry.after or {}
    return [
        Difference(name, _text(before, name), _text(after, name))
        for name in {**before, **after}
        if name not in before or name not in after or before[name] != after[name]
    ]


def _text(members: dict[str, Any], name: str) -> str | None:
    if members.get(name) is None:
        return None
    value = members[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
