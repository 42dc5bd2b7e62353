"""An organization's timeline: its latest events, and those that come while one looks."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from core import ids, limits
from core.admin import apps, sign_ins, timeline, workers
from core.admin.apps import App
from core.admin.errors import AdministrationError, InvalidValueError
from core.admin.pages import Page
from core.admin.timeline import Latest, Selection, TimelineEvent
from core.postgres.sessions import Connection
from http_api.console import organizations
from http_api.console.query import given, given_id
from http_api.console.rendering import address, fragment, page
from http_api.console.security import Reader, Visit
from http_api.console.views import View, Views, message
from http_api.docs.examples import request_examples
from http_api.paths import READING
from http_api.site import Site

PATH: Final = f"{organizations.PATH}/{{organization_id}}"
PAGE_EVENTS: Final = 50
MAX_APP_CHOICES: Final = 200  # to filter by

router = APIRouter()


class Filters(NamedTuple):
    """The wanted events, as the form of the page writes them; empty is all."""

    worker: str
    app: str
    type: str
    category: str
    day: str

    @classmethod
    def of(cls, request: Request) -> Filters:
        """Return the filters in the address of the page."""
        return cls(*(given(request, name) for name in cls._fields))

    async def selection(self, db: Connection, organization_id: UUID) -> Selection:
        """Return the events that are meant; AdministrationError if there can be none."""
        if self.category and self.category not in limits.CATEGORIES:
            raise InvalidValueError(f"category: there is no {self.category!r}")
        worker = await workers.find(db, organization_id, self.worker) if self.worker else None
        app = await apps.find(db, self.app, organization_id) if self.app else None
        return Selection(
            organization_id,
            app_id=None if app is None else app.id,
            worker_id=None if worker is None else worker.id,
            event_type=self.type or None,
            category=self.category or None,
            day=_day(self.day),
        )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidValueError(f"day: {text!r} is none; write it like 2026-04-01") from None


def views(request: Request) -> Views:
    """Return the views of this process."""
    found: Views = request.app.state.views
    return found


@router.api_route(PATH, methods=READING)
async def show_timeline(request: Request, organization_id: str, visit: Reader) -> Response:
    """Show the latest events, or those before one."""
    filters = Filters.of(request)
    before = given_id(request, "before", ids.EVENT)
    problem: AdministrationError | None = None
    found: Page[TimelineEvent, UUID] = Page([], None)
    async with visit.cells() as cells:
        cell, organization = await organizations.find(cells, organization_id)
        known_apps = await apps.page(cell.db, organization.id, MAX_APP_CHOICES)
        try:
            selection = await filters.selection(cell.db, organization.id)
        except AdministrationError as error:
            problem = error
        else:
            found = await timeline.page(cell.db, selection, PAGE_EVENTS, before)
    here = organizations.path_of(organization)
    older = None
    if found.after is not None:
        older = address(request, before=ids.text(ids.EVENT, found.after))
    is_live = before is None and problem is None
    return page(
        request,
        "timeline.html.jinja",
        problem=problem,
        organization=organization,
        here=here,
        tab="timeline",
        apps=known_apps,
        event_types=sorted({one for app in known_apps for one in app.allowed_event_types}),
        categories=limits.CATEGORIES,
        filters=filters,
        is_filtered=any(filters),
        events=found.items,
        older=older,
        newest=before and address(request, before=None),
        stream=f"{here}/events/stream?{request.url.query}" if is_live else None,
        example=_example(request.app.state.site, known_apps),
    )


def _example(site: Site, known_apps: list[App]) -> str:
    """Return the command that sends a first event."""
    allowed = [one for app in known_apps for one in app.allowed_event_types]
    return request_examples(site, "ingestEvents", event_body(allowed[0] if allowed else None))[
        0
    ].code.strip()


def event_body(event_type: str | None) -> str:
    """Return a batch of one event that is accepted, if the type is allowed."""
    return (
        '{\n  "events": [\n    {\n'
        f'      "eventType": "{event_type or "ticket.resolved"}",\n'
        '      "category": "project_management",\n'
        '      "actor": {"externalId": "crm-user-42"}\n'
        "    }\n  ]\n}"
    )


class _Feed:
    """The messages of one view: the latest events at first, and then those that come."""

    def __init__(self, visit: Visit, organization_id: str, filters: Filters) -> None:
        self._visit = visit
        self._organization_id = organization_id
        self._filters = filters
        self._latest: Latest | None = None

    async def poll(self) -> list[bytes]:
        """Return what has come since; raises if the session has ended, or the organization."""
        desk = self._visit.desk
        async with self._visit.cells() as cells:
            await sign_ins.operator_of(cells.home, self._visit.secret, desk.clock.now_us())
            cell, organization = await organizations.find(cells, self._organization_id)
            is_first = self._latest is None
            latest = self._latest
            if latest is None:
                selection = await self._filters.selection(cell.db, organization.id)
                latest = Latest(selection, PAGE_EVENTS)
            events = await latest.news(cell.db)
            self._latest = latest
        messages = []
        if len(events) == PAGE_EVENTS and not is_first:
            messages.append(message("skipped", ""))
        if events or is_first:
            here = organizations.path_of(organization)
            rows = fragment("events.html.jinja", events=events, here=here)
            messages.append(message("latest" if is_first else "events", rows))
        return messages


@router.get(f"{PATH}/events/stream")
async def stream_events(
    request: Request,
    organization_id: str,
    visit: Reader,
    open_views: Annotated[Views, Depends(views)],
) -> Response:
    """Send the events that come, for as long as the page is open and the session goes on."""
    filters = Filters.of(request)
    async with visit.cells() as cells:
        cell, organization = await organizations.find(cells, organization_id)
        await filters.selection(cell.db, organization.id)
    return View(open_views, visit.operator.id, _Feed(visit, organization_id, filters).poll)
