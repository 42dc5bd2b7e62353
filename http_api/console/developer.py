"""The developer tab of an organization: its apps, their whitelists and their keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from core import ids, limits
from core.admin import apps, key_rotation, keys, whitelist
from core.admin.apps import App
from core.admin.cell_sessions import CellSession, CellSessions
from core.admin.errors import (
    AdministrationError,
    AlreadyExistsError,
    InvalidValueError,
    NotFoundError,
)
from core.admin.keys import ApiKey
from core.admin.organizations import Organization
from core.postgres.sessions import Connection
from core.timestamps import from_datetime
from http_api.console import organizations
from http_api.console.query import given
from http_api.console.rendering import page
from http_api.console.security import ChangingForm, Form, Reader, Visit
from http_api.docs.code import code_block
from http_api.paths import READING

PATH: Final = f"{organizations.PATH}/{{organization_id}}/developer"
APP_PATH: Final = f"{PATH}/apps/{{app_id}}"
KEY_PATH: Final = f"{PATH}/keys/{{key_id}}"
MAX_SHOWN_APPS: Final = 20  # of a page
MAX_SHOWN_KEYS: Final = 50  # of an app, the oldest
OLD_KEY_HOURS: Final = key_rotation.OLD_KEY_SECONDS // 3_600
MAX_OLD_KEY_HOURS: Final = 24 * 365
_NOTICES: Final = {
    "app": "The app was made. Make a key for it, and its events can come.",
    "allowed": "The whitelist was changed. It is in force within a second.",
    "revoked": "The key was revoked. Requests with it are refused within a second.",
}

router = APIRouter()


class ShownApp(NamedTuple):
    """An app with its keys: those that work, and those that no longer do."""

    app: App
    usable: Sequence[ApiKey]
    ended: Sequence[ApiKey]
    has_more_keys: bool


class NewKey(NamedTuple):
    """A key that is shown this once; ``old``: the one that it replaces."""

    record: ApiKey
    key: str
    old: ApiKey | None


@router.api_route(PATH, methods=READING)
async def show_developer(request: Request, organization_id: str, visit: Reader) -> Response:
    """Show the apps of an organization."""
    return await _page(request, visit, organization_id)


@router.post(f"{PATH}/apps")
async def create_app(request: Request, organization_id: str, form: ChangingForm) -> Response:
    """Make an app."""
    try:
        async with form.visit.cells() as cells:
            cell, organization = await organizations.find(cells, organization_id)
            types = form.text("event_types").replace(",", " ").split()
            slug, name = form.text("slug"), form.text("name") or form.text("slug")
            await apps.create(cell, organization, slug, name, types, _now_us(form.visit))
    except NotFoundError:
        raise
    except AdministrationError as error:
        return await _page(request, form.visit, organization_id, error, form.fields)
    return _back(organization, "app", slug)


@router.post(f"{APP_PATH}/allow")
async def allow_types(
    request: Request, organization_id: str, app_id: str, form: ChangingForm
) -> Response:
    """Add event types to a whitelist."""
    return await _change_whitelist(request, organization_id, app_id, form, whitelist.allow)


@router.post(f"{APP_PATH}/deny")
async def deny_types(
    request: Request, organization_id: str, app_id: str, form: ChangingForm
) -> Response:
    """Take event types off a whitelist."""
    return await _change_whitelist(request, organization_id, app_id, form, whitelist.deny)


async def _change_whitelist(
    request: Request, organization_id: str, app_id: str, form: Form, change: Any
) -> Response:
    try:
        async with form.visit.cells() as cells:
            cell, organization, app = await _find_app(cells, organization_id, app_id)
            types = form.text("event_types").replace(",", " ").split()
            await change(cell, organization.id, app.id, types)
    except InvalidValueError as error:
        return await _page(request, form.visit, organization_id, error)
    return _back(organization, "allowed", app.slug)


@router.post(f"{APP_PATH}/keys")
async def create_key(
    request: Request, organization_id: str, app_id: str, form: ChangingForm
) -> Response:
    """Make a key, and show it this once."""
    visit = form.visit
    try:
        async with visit.cells() as cells:
            cell, _, app = await _find_app(cells, organization_id, app_id)
            record, key = await keys.create(
                cell,
                app,
                visit.desk.secrets,
                _now_us(visit),
                expires_us=_end_of_day_us(form.text("expires_on")),
                requests_per_second=form.integer(
                    "requests_per_second", limits.DEFAULT_KEY_REQUESTS_PER_SECOND
                ),
                key_id=_new_key_id(form),
            )
    except (InvalidValueError, AlreadyExistsError) as error:
        return await _page(request, visit, organization_id, error)
    return await _page(request, visit, organization_id, new_key=NewKey(record, key, None))


@router.post(f"{KEY_PATH}/revoke")
async def revoke_key(organization_id: str, key_id: str, form: ChangingForm) -> Response:
    """Revoke a key."""
    async with form.visit.cells() as cells:
        cell, organization, key = await _find_key(cells, organization_id, key_id)
        await keys.revoke(cell, key, _now_us(form.visit))
    return _back(organization, "revoked", key.app_slug)


@router.post(f"{KEY_PATH}/rotate")
async def rotate_key(
    request: Request, organization_id: str, key_id: str, form: ChangingForm
) -> Response:
    """Make a key in place of another, which still works for a while; show the new one this once."""
    visit = form.visit
    try:
        async with visit.cells() as cells:
            cell, _, key = await _find_key(cells, organization_id, key_id)
            hours = form.integer("old_ends_in_hours", OLD_KEY_HOURS)
            if hours > MAX_OLD_KEY_HOURS:
                raise InvalidValueError(f"the old key must end within {MAX_OLD_KEY_HOURS} hours")
            now_us = _now_us(visit)
            old, record, text = await key_rotation.rotate(
                cell,
                key,
                visit.desk.secrets,
                now_us,
                old_ends_us=now_us + hours * 3_600_000_000,
                expires_us=_end_of_day_us(form.text("expires_on")),
                key_id=_new_key_id(form),
            )
    except NotFoundError:
        raise
    except AdministrationError as error:
        return await _page(request, visit, organization_id, error)
    return await _page(request, visit, organization_id, new_key=NewKey(record, text, old))


def _new_key_id(form: Form) -> UUID | None:
    """Return the id that the page has given its form, which is sent again by a browser's reload."""
    return ids.parse(ids.KEY, form.text("new_key_id"))


async def _page(
    request: Request,
    visit: Visit,
    organization_id: str,
    problem: AdministrationError | None = None,
    fields: object = None,
    new_key: NewKey | None = None,
) -> Response:
    async with visit.cells() as cells:
        cell, organization = await organizations.find(cells, organization_id)
        known, after = await _apps_of_page(cell.db, organization.id, given(request, "after"))
        changed = given(request, "app")
        if changed and all(app.slug != changed for app in known):  # it is on another page
            known, after = [await apps.find(cell.db, changed, organization.id)], changed
        now_us = _now_us(visit)
        shown = [await _shown(cell.db, app, now_us) for app in known]
    here = organizations.path_of(organization)
    return page(
        request,
        "developer.html.jinja",
        problem=problem,
        organization=organization,
        here=here,
        tab="developer",
        apps=shown,
        first_page=f"{here}/developer" if given(request, "after") or changed else None,
        next_page=after and f"{here}/developer?after={after}",
        now_us=now_us,
        new_key_id=lambda: ids.text(ids.KEY, ids.new(now_us)),
        new_key=new_key,
        new_key_code=new_key and code_block(new_key.key, "text", "API key"),
        notice=_NOTICES.get(given(request, "done")),
        fields=fields or {},
        default_rate=limits.DEFAULT_KEY_REQUESTS_PER_SECOND,
        old_key_hours=OLD_KEY_HOURS,
    )


async def _apps_of_page(
    db: Connection, organization_id: UUID, after: str
) -> tuple[list[App], str | None]:
    """Return the apps of the page behind that slug, and the last one's slug if there are more."""
    if after:
        apps.check_slug(after)
    found = await apps.page(db, organization_id, MAX_SHOWN_APPS + 1, after)
    shown = found[:MAX_SHOWN_APPS]
    return shown, shown[-1].slug if len(found) > MAX_SHOWN_APPS else None


async def _shown(db: Connection, app: App, now_us: int) -> ShownApp:
    found = await keys.page(db, app.organization_id, app.id, MAX_SHOWN_KEYS + 1)
    known = found[:MAX_SHOWN_KEYS]
    usable = [key for key in known if key.state(now_us) == "active"]
    ended = [key for key in known if key.state(now_us) != "active"]
    return ShownApp(app, usable[::-1], ended[::-1], len(found) > MAX_SHOWN_KEYS)


async def _find_app(
    cells: CellSessions, organization_id: str, app_id: str
) -> tuple[CellSession, Organization, App]:
    cell, organization = await organizations.find(cells, organization_id)
    known_id = ids.parse(ids.APP, app_id)
    if known_id is None:
        raise NotFoundError(f"there is no app {app_id!r} in this organization")
    return cell, organization, await apps.get(cell.db, organization.id, known_id)


async def _find_key(
    cells: CellSessions, organization_id: str, key_id: str
) -> tuple[CellSession, Organization, ApiKey]:
    cell, organization = await organizations.find(cells, organization_id)
    known_id = ids.parse(ids.KEY, key_id)
    if known_id is None:
        raise NotFoundError("there is no such key in this organization")
    return cell, organization, await keys.get(cell.db, organization.id, known_id)


def _back(organization: Organization, done: str, slug: str) -> Response:
    """Return to the tab, at the app, with a word on what was done."""
    here = organizations.path_of(organization)
    return RedirectResponse(f"{here}/developer?done={done}&app={slug}#{slug}", 303)


def _end_of_day_us(text: str) -> int | None:
    """Return the end of the day (UTC) that is given; None for none."""
    if not text:
        return None
    try:
        end = datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), UTC)
    except (ValueError, OverflowError):
        raise InvalidValueError(f"the expiry {text!r} is no day; write 2026-04-01") from None
    return from_datetime(end)


def _now_us(visit: Visit) -> int:
    return visit.desk.clock.now_us()
