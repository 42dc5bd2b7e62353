"""An organization's rejections: why requests and events were refused, and what to send instead."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from core.admin import apps, rejections
from core.admin.errors import AdministrationError, InvalidValueError
from core.admin.rejections import RejectionRecord, Selection
from core.error_codes import CATALOGUE, CatalogueEntry, ErrorCode
from http_api.console import organizations
from http_api.console.query import given
from http_api.console.rendering import address, page
from http_api.console.security import Reader
from http_api.console.timeline import MAX_APP_CHOICES, event_body
from http_api.docs.code import code_block
from http_api.docs.examples import request_examples
from http_api.paths import READING
from http_api.site import Site

PAGE_REJECTIONS: Final = 50
MAX_CACHED_EXAMPLES: Final = 200  # a few kilobytes each
# Codes of requests whose key or plan is at fault: a ping tells whether that has ended.
_OF_KEYS: Final = frozenset(
    {
        ErrorCode.MISSING_AUTHORIZATION,
        ErrorCode.INVALID_KEY,
        ErrorCode.KEY_REVOKED,
        ErrorCode.KEY_EXPIRED,
        ErrorCode.PLAN_DISABLED,
    }
)

router = APIRouter()


class Shown(NamedTuple):
    """A rejection, the catalogue's words on its code, and a request that is not rejected so."""

    record: RejectionRecord
    help: CatalogueEntry | None
    example: Markup


@router.api_route(f"{organizations.PATH}/{{organization_id}}/rejections", methods=READING)
async def show_rejections(request: Request, organization_id: str, visit: Reader) -> Response:
    """Show the latest rejections, or those of a request, a code or an app."""
    request_id, code, app = (given(request, name) for name in ("request", "code", "app"))
    before = _before(request)
    problem: AdministrationError | None = None
    found: list[RejectionRecord] = []
    async with visit.cells() as cells:
        cell, organization = await organizations.find(cells, organization_id)
        known_apps = await apps.page(cell.db, organization.id, MAX_APP_CHOICES)
        selection = Selection(organization.id, code or None, app or None, request_id or None)
        try:
            if code:
                rejections.check_code(code)
        except AdministrationError as error:
            problem = error
        else:
            found = await rejections.newest(cell.db, selection, PAGE_REJECTIONS + 1, before=before)
    shown = found[:PAGE_REJECTIONS]
    allowed = {one.slug: one.allowed_event_types for one in known_apps}
    site = request.app.state.site
    older = None
    if len(found) > PAGE_REJECTIONS:
        older = address(request, before=str(shown[-1].id))
    return page(
        request,
        "rejections.html.jinja",
        problem=problem,
        organization=organization,
        here=organizations.path_of(organization),
        tab="rejections",
        apps=known_apps,
        codes=list(ErrorCode),
        wanted_request=request_id,
        wanted_code=code,
        wanted_app=app,
        is_filtered=bool(request_id or code or app),
        rejections=[_shown(one, site, allowed.get(one.app_slug, [])) for one in shown],
        older=older,
        newest=before and address(request, before=None),
    )


def _before(request: Request) -> UUID | None:
    text = given(request, "before")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise InvalidValueError(f"before: {text!r} is no rejection") from None


def _shown(record: RejectionRecord, site: Site, allowed: list[str]) -> Shown:
    known = {entry.value: text for entry, text in CATALOGUE.items()}
    example = request_instead(site, record.code, allowed[0] if allowed else None)
    return Shown(record, known.get(record.code), example)


@lru_cache(MAX_CACHED_EXAMPLES)
def request_instead(site: Site, code: str, event_type: str | None) -> Markup:
    """Return the command for a request that does not get the code, if ``event_type`` is allowed."""
    if code in _OF_KEYS:
        examples = request_examples(site, "ping")
    else:
        examples = request_examples(site, "ingestEvents", event_body(event_type))
    return code_block(examples[0].code.strip(), examples[0].language, "Send instead")
