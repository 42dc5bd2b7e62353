"""The change of a worker's name and e-mail."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from msgspec import UNSET, UnsetType
from psycopg.errors import UniqueViolation

from core import ids
from core.admin import checks, worker_lock, workers
from core.admin.cell_sessions import CellSession
from core.admin.errors import NotFoundError
from core.admin.workers import WorkerDetails
from core.emails import email_key
from core.journal import worker_changes
from core.postgres.audit import Change
from core.rules import fields

_RENAMED: Final = """
SELECT display_name, email FROM workers
WHERE organization_id = %s AND id = %s AND merged_into IS NULL AND erased_at IS NULL
FOR UPDATE
"""
# The address may be that of a worker that was merged into this one.
_TAKE_EMAIL: Final = """
UPDATE workers SET email = NULL, email_key = NULL
WHERE organization_id = %s AND merged_into = %s AND email_key = %s
"""
_SET_EMAIL: Final = """
UPDATE workers SET email = %s, email_key = %s WHERE organization_id = %s AND id = %s
"""
_RENAME: Final = "UPDATE workers SET display_name = %s WHERE organization_id = %s AND id = %s"


async def rename(
    cell: CellSession,
    organization_id: UUID,
    worker_id: UUID,
    display_name: str,
    email: str | UnsetType | None = UNSET,
) -> WorkerDetails:
    """Change a worker's name, and the e-mail if one is given; None is no e-mail any more.

    AlreadyExistsError if another worker has the e-mail, NotFoundError if there is no such worker.
    An e-mail is changed as workers are merged: raises as :func:`core.admin.worker_lock.alone`.
    """
    checks.name("worker name", display_name)
    if isinstance(email, str):
        checks.checked("e-mail", fields.email, email)
    subject = ids.text(ids.WORKER, worker_id)
    change = Change("worker.rename", organization_id, subject, before={})
    try:
        async with (
            cell.recording(change),
            _counted(cell, organization_id, keeps_email=isinstance(email, UnsetType)),
        ):
            cursor = await cell.db.execute(_RENAMED, (organization_id, worker_id))
            before = await cursor.fetchone()
            if before is None:
                raise NotFoundError(f"there is no worker {subject}, or the worker was erased")
            new_email = before[1] if isinstance(email, UnsetType) else email
            changed = (display_name != before[0], new_email != before[1])
            names = ("displayName", "email")
            # The values are the person's, who may be erased one day.
            change.after = {
                name: "changed" for name, is_new in zip(names, changed, strict=True) if is_new
            }
            if changed[1]:
                key = new_email and email_key(new_email)
                await cell.db.execute(_TAKE_EMAIL, (organization_id, worker_id, key))
                await cell.db.execute(_SET_EMAIL, (new_email, key, organization_id, worker_id))
            await cell.db.execute(_RENAME, (display_name, organization_id, worker_id))
    except UniqueViolation as error:  # of the e-mail: nothing else is unique and changes
        raise workers.email_taken(email) from error
    return await workers.get(cell.db, organization_id, worker_id)


@contextlib.asynccontextmanager
async def _counted(
    cell: CellSession, organization_id: UUID, *, keeps_email: bool
) -> AsyncIterator[None]:
    """A change of workers within a transaction. An old name meanwhile does no harm.

    An e-mail stays with its worker from one statement of a transaction of the journal to the next:
    whoever lost the race to make a worker with it looks for the one that won.
    """
    if keeps_email:
        await worker_changes.count(cell.db, organization_id)
        yield
        return
    async with worker_lock.alone(cell, organization_id):
        yield
