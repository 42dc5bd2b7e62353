"""``/organizations/…/apps``: the integrations of an organization, each with its whitelist."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response
from msgspec import structs

from core.admin import apps, as_json, removal, whitelist
from core.admin.apps import App
from core.admin.pages import page_of
from http_api.manage import rights
from http_api.manage.in_path import AppInPath, OwnerInPath
from http_api.manage.pages import Paging, page_json
from http_api.manage.removing import REMOVAL_SECONDS, Removing
from http_api.manage.security import READS, WRITES, Desk

router = APIRouter(tags=["Apps"])
ALL = "/organizations/{organizationId}/apps"
ONE = f"{ALL}/{{appId}}"


@router.get(ALL, dependencies=READS)
async def list_apps(owner: OwnerInPath, wanted: Annotated[Paging, Query()]) -> rights.AppPage:
    """List the apps of an organization, by slug."""
    found = await apps.page(
        owner.cell.db, owner.organization.id, wanted.limit + 1, wanted.after(str)
    )
    page = page_of(found, wanted.limit, lambda app: app.slug)
    return rights.AppPage.model_validate(page_json(page, as_json.app))


@router.post(ALL, status_code=HTTPStatus.CREATED, dependencies=WRITES)
async def create_app(owner: OwnerInPath, desk: Desk, given: rights.NewApp) -> rights.App:
    """Make an app. It may send the event types that are allowed, and no others."""
    made = await apps.create(
        owner.cell,
        owner.organization,
        given.slug,
        given.name,
        given.allowed_event_types,
        desk.clock.now_us(),
    )
    return _answer(made)


@router.get(ONE, dependencies=READS)
async def get_app(app: AppInPath) -> rights.App:
    """Show one app, with its whitelist."""
    return _answer(app)


@router.post(f"{ONE}/whitelist/allow", dependencies=WRITES)
async def allow_event_types(
    owner: OwnerInPath, app: AppInPath, given: rights.EventTypes
) -> rights.App:
    """Put event types on an app's whitelist. In force on every server within a second."""
    types = await whitelist.allow(owner.cell, app.organization_id, app.id, given.event_types)
    return _answer(structs.replace(app, allowed_event_types=types))


@router.post(f"{ONE}/whitelist/deny", dependencies=WRITES)
async def deny_event_types(
    owner: OwnerInPath, app: AppInPath, given: rights.EventTypes
) -> rights.App:
    """Take event types off an app's whitelist. If one is not on it, nothing is changed."""
    types = await whitelist.deny(owner.cell, app.organization_id, app.id, given.event_types)
    return _answer(structs.replace(app, allowed_event_types=types))


@router.delete(
    ONE, dependencies=WRITES, responses={HTTPStatus.ACCEPTED: {"model": rights.AppRemoval}}
)
async def remove_app(
    owner: OwnerInPath,
    app: AppInPath,
    desk: Desk,
    response: Response,
    wanted: Annotated[Removing, Query()],
) -> rights.AppRemoval:
    """Remove an app with its keys, events and snapshots, for good. The workers stay.

    A large one is removed by several requests: 202 says that its keys are revoked, and that some of
    it is left; send the request again until the answer is 200.
    """
    if not wanted.dry_run:
        wanted.check(app.slug)
    now_us = desk.clock.now_us()
    extent = await removal.extent(owner.cell.db, app.organization_id, now_us, app.id)
    is_done = False
    if not wanted.dry_run:
        left = await removal.remove_app(owner.cell, app, now_us, REMOVAL_SECONDS)
        is_done = left.is_finished
        response.status_code = HTTPStatus.OK if is_done else HTTPStatus.ACCEPTED
    name = f"{app.organization_name}/{app.slug}"
    return rights.AppRemoval.model_validate(
        {"app": name, "removed": is_done, **as_json.extent(extent)}
    )


def _answer(app: App) -> rights.App:
    return rights.App.model_validate(as_json.app(app))
