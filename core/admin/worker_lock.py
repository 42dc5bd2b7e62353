"""The moment at which an operator changes what events find of workers, with nobody beside."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

from psycopg.errors import LockNotAvailable

from core.admin.cell_sessions import CellSession
from core.admin.errors import AdministrationError
from core.journal import worker_changes


@contextlib.asynccontextmanager
async def alone(cell: CellSession, organization_id: UUID) -> AsyncIterator[None]:
    """As :func:`core.journal.worker_changes.alone`; AdministrationError if it does not come to it.

    Its block has locked no rows then, and changed nothing.
    """
    try:
        async with worker_changes.alone(cell.db, organization_id):
            yield
    except LockNotAvailable as error:
        raise AdministrationError(
            "transactions of the organization hold its workers for long: nothing was changed, try "
            "again later"
        ) from error
