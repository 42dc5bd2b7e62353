"""Demo data: an organization, an app and a key that works, and a way into the console."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from core import ids
from core.access.callers import find_caller_at_home
from core.access.key_secrets import KeySecrets
from core.admin import apps, keys, operators, organizations, sign_ins
from core.admin.apps import App
from core.admin.cell_sessions import at_home
from core.admin.errors import AlreadyExistsError
from core.admin.organizations import Organization
from core.postgres.sessions import Connection

log = logging.getLogger(__name__)

ORGANIZATION_NAME: Final = "Demo"
APP_SLUG: Final = "crm-hub"
APP_NAME: Final = "CRM Hub"
EVENT_TYPES: Final = (
    "call.finished",
    "deal.created",
    "deal.won",
    "meeting.held",
    "ticket.created",
    "ticket.resolved",
)
KEY_FILE: Final = "demo-key"
OPERATOR_NAME: Final = "demo"


class DemoAccess(NamedTuple):
    """The key to try the service with, the app it is for as commands name it, and a sign-in.

    ``key`` is None when there is one already that can no longer be shown. ``link`` is the secret
    of a link to the console, which signs in once.
    """

    key: str | None
    organization_id: str
    app: str
    link: str


async def ensure_demo(db: Connection, secrets: KeySecrets, data_dir: Path | None) -> DemoAccess:
    """Make what is missing of the demo organization, its app and a key for it, and a new link.

    A key is shown only when it is made. Next to the embedded database it is also kept in the file
    ``demo-key``, readable only by its owner, so that later runs have it; ``data_dir`` is None for
    a database elsewhere. A key in the file that no longer works is replaced.
    """
    organization = await _ensure_organization(db)
    app = await _ensure_app(db, organization)
    key = await _ensure_key(db, app, secrets, data_dir)
    link = await _make_link(db, secrets)
    organization_id = ids.text(ids.ORGANIZATION, organization.id)
    return DemoAccess(key, organization_id, f"{ORGANIZATION_NAME}/{APP_SLUG}", link)


async def _make_link(db: Connection, secrets: KeySecrets) -> str:
    """Make a link that signs in as the demo's operator, whose token nobody has."""
    try:
        operator, _ = await operators.create(
            at_home(db), OPERATOR_NAME, "write", secrets, _now_us()
        )
    except AlreadyExistsError:
        operator = await operators.find(db, OPERATOR_NAME)
    return await sign_ins.make_link(db, operator, _now_us())


async def _ensure_key(
    db: Connection, app: App, secrets: KeySecrets, data_dir: Path | None
) -> str | None:
    if data_dir is None:
        now_us = _now_us()
        if any(key.state(now_us) == "active" for key in await keys.of_app(db, app)):
            return None
        _, key = await keys.create(at_home(db), app, secrets, now_us)
        return key
    file = data_dir / KEY_FILE
    kept = _read(file)
    if kept is not None and await _works(db, app, secrets, kept):
        return kept
    _, key = await keys.create(at_home(db), app, secrets, _now_us())
    _write(file, key)
    return key


async def _ensure_organization(db: Connection) -> Organization:
    try:
        return await organizations.create(at_home(db), ORGANIZATION_NAME, _now_us())
    except AlreadyExistsError:
        named = [one for one in await organizations.list_all(db) if one.name == ORGANIZATION_NAME]
        if not named:  # it lives in another cell
            raise
        return named[0]


async def _ensure_app(db: Connection, organization: Organization) -> App:
    try:
        return await apps.create(
            at_home(db), organization, APP_SLUG, APP_NAME, EVENT_TYPES, _now_us()
        )
    except AlreadyExistsError:
        return await apps.find(db, APP_SLUG, organization.id)


async def _works(db: Connection, app: App, secrets: KeySecrets, key: str) -> bool:
    caller = await find_caller_at_home(db, secrets.digests(key))
    return (
        caller is not None
        and caller.app_id == app.id
        and not caller.revoked
        and (caller.expires_us is None or caller.expires_us > _now_us())
    )


def _read(file: Path) -> str | None:
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _write(file: Path, key: str) -> None:
    # A new file put in the old one's place: never half written, never with wider rights.
    new = file.with_name(f"{KEY_FILE}.{os.getpid()}")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(f"{key}\n")
        new.replace(file)
    except OSError as error:
        log.warning("the demo key cannot be kept for the next run: %s", error)


def _now_us() -> int:
    return time.time_ns() // 1_000
