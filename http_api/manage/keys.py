"""``/organizations/…/keys``: what an organization's apps authenticate with."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from core import ids
from core.admin import as_json, key_rotation, keys
from core.admin.key_rotation import OLD_KEY_SECONDS
from core.admin.keys import ApiKey
from core.admin.pages import page_of
from core.timestamps import from_datetime
from http_api.manage import rights
from http_api.manage.in_path import AppInPath, KeyInPath, OwnerInPath, id_in_query
from http_api.manage.pages import Paging, page_json
from http_api.manage.security import READS, WRITES, Desk

router = APIRouter(tags=["Keys"])
ALL = "/organizations/{organizationId}/keys"
ONE = f"{ALL}/{{keyId}}"


class KeyQuery(Paging):
    """The parameters of the list."""

    app_id: str | None = Field(None, description="Only the keys of this app.")


@router.get(ALL, dependencies=READS)
async def list_keys(
    owner: OwnerInPath, desk: Desk, wanted: Annotated[KeyQuery, Query()]
) -> rights.KeyPage:
    """List the keys of an organization, or of one app of it."""
    found = await keys.page(
        owner.cell.db,
        owner.organization.id,
        id_in_query(ids.APP, "appId", wanted.app_id),
        wanted.limit + 1,
        wanted.after(UUID),
    )
    page = page_of(found, wanted.limit, lambda key: key.id)
    now_us = desk.clock.now_us()
    return rights.KeyPage.model_validate(page_json(page, lambda key: as_json.key(key, now_us)))


@router.post(
    "/organizations/{organizationId}/apps/{appId}/keys",
    status_code=HTTPStatus.CREATED,
    dependencies=WRITES,
    response_model_exclude_unset=True,
)
async def create_key(
    owner: OwnerInPath, app: AppInPath, desk: Desk, given: rights.NewKey
) -> rights.MadeKey:
    """Make a key and show it, this once: only its digest is stored."""
    now_us = desk.clock.now_us()
    made, text = await keys.create(
        owner.cell,
        app,
        desk.secrets,
        now_us,
        expires_us=_us(given.expires_at),
        requests_per_second=given.requests_per_second,
    )
    return rights.MadeKey.model_validate(as_json.new_key(made, text, now_us))


@router.get(ONE, dependencies=READS)
async def get_key(key: KeyInPath, desk: Desk) -> rights.Key:
    """Show what is known of a key, never the key itself."""
    return _answer(key, desk.clock.now_us())


@router.post(f"{ONE}/revoke", dependencies=WRITES)
async def revoke_key(owner: OwnerInPath, key: KeyInPath, desk: Desk) -> rights.Key:
    """End a key for good, on every server within a second. Again is harmless."""
    now_us = desk.clock.now_us()
    return _answer(await keys.revoke(owner.cell, key, now_us), now_us)


@router.post(
    f"{ONE}/rotate",
    status_code=HTTPStatus.CREATED,
    dependencies=WRITES,
    response_model_exclude_unset=True,
)
async def rotate_key(
    owner: OwnerInPath, key: KeyInPath, desk: Desk, given: rights.Rotation
) -> rights.MadeKey:
    """Make a new key of the same app and rate, and let the old one end."""
    now_us = desk.clock.now_us()
    old_ends_us = _us(given.old_ends_at)
    old, new, text = await key_rotation.rotate(
        owner.cell,
        key,
        desk.secrets,
        now_us,
        old_ends_us=now_us + OLD_KEY_SECONDS * 1_000_000 if old_ends_us is None else old_ends_us,
        expires_us=_us(given.expires_at),
    )
    return rights.MadeKey.model_validate(as_json.new_key(new, text, now_us, old))


def _answer(key: ApiKey, now_us: int) -> rights.Key:
    return rights.Key.model_validate(as_json.key(key, now_us))


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else from_datetime(moment)
