"""The directory, in the home database: which cells there are, and which holds an organization.

A cell is a schema that holds whole organizations (docs/decisions/0012-cells.md). Each function runs
on a session of the home database. Each change is announced by a trigger (core/access/invalidation).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from psycopg.errors import UniqueViolation

from core.postgres.search_path import use_schema
from core.postgres.sessions import Connection, connect

HOME: Final = "home"  # the cell that every database has
MAX_CELLS: Final = 256  # each has two queues and some timers in every process
MAX_NAME_CHARACTERS: Final = 30  # fewer than of a UUID, as which an announcement is read
_NAME: Final = re.compile(rf"[a-z][a-z0-9_]{{0,{MAX_NAME_CHARACTERS - 1}}}\Z")


class NameTakenError(Exception):
    """Another organization, in whatever cell, has the name."""


class CellRecord(NamedTuple):
    """A cell, as the directory has it.

    ``conninfo``: None for the home database. ``schema``: None for the tables that a session finds
    of its own, which are the home cell's. ``is_citus``: the schema is distributed, and ``conninfo``
    leads to its coordinator. ``is_closed``: it takes no new organizations.
    """

    name: str
    conninfo: str | None = None
    schema: str | None = None
    is_citus: bool = False
    is_closed: bool = False


class KeyPlace(NamedTuple):
    """The organization of a key, and the cell that holds it.

    ``is_current``: the digest was made with the secret that is in force.
    """

    organization_id: UUID
    cell: str
    is_current: bool


class OrganizationPlace(NamedTuple):
    """An organization's id, its name and the cell that holds it."""

    id: UUID
    name: str
    cell: str


def is_cell_name(value: str) -> bool:
    """Whether a cell may have the name: it is its schema's, too."""
    return _NAME.match(value) is not None and not value.startswith("pg_")


async def connect_to(cell: CellRecord, home_conninfo: str) -> Connection:
    """A new session of the cell, in autocommit mode; the caller closes it.

    On Citus it is the coordinator's. Raises as :func:`core.postgres.sessions.connect`.
    """
    db = await connect(home_conninfo if cell.conninfo is None else cell.conninfo)
    await use_schema(db, cell.schema)
    return db


_CELLS: Final = """
SELECT name, conninfo, schema, citus, closed_at IS NOT NULL FROM cells ORDER BY created_at, name
"""
_CELL: Final = """
SELECT name, conninfo, schema, citus, closed_at IS NOT NULL FROM cells WHERE name = %s
"""
_OPEN_CELL: Final = """
SELECT cells.name, conninfo, schema, citus, false
FROM cells LEFT JOIN directory_organizations ON cell = cells.name
WHERE closed_at IS NULL
GROUP BY cells.name ORDER BY count(id), created_at, cells.name LIMIT 1
"""


async def list_cells(db: Connection) -> list[CellRecord]:
    """Every cell, oldest first: the home cell comes before all others."""
    return [CellRecord(*row) for row in await (await db.execute(_CELLS)).fetchall()]


async def find_cell(db: Connection, name: str) -> CellRecord | None:
    """The cell of that name; None if there is none."""
    row = await (await db.execute(_CELL, (name,))).fetchone()
    return row and CellRecord(*row)


async def open_cell_for_new(db: Connection) -> CellRecord | None:
    """The open cell with the fewest organizations, the oldest of equals; None if all are closed."""
    row = await (await db.execute(_OPEN_CELL)).fetchone()
    return row and CellRecord(*row)


_ADD_CELL: Final = """
INSERT INTO cells (name, conninfo, schema, citus, closed_at, created_at)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING RETURNING name
"""
_CLOSE_CELL: Final = "UPDATE cells SET closed_at = %s WHERE name = %s RETURNING name"


async def add_cell(db: Connection, cell: CellRecord, now: datetime) -> bool:
    """Enter a cell; False if there is one of its name."""
    row = (cell.name, cell.conninfo, cell.schema, cell.is_citus, now if cell.is_closed else None)
    return await (await db.execute(_ADD_CELL, (*row, now))).fetchone() is not None


async def set_closed(db: Connection, name: str, closed_at: datetime | None) -> bool:
    """Close a cell to new organizations, or with None open it again; False if there is none."""
    return await (await db.execute(_CLOSE_CELL, (closed_at, name))).fetchone() is not None


_KEYS: Final = """
SELECT digest, organization_id, cell, secret_check IS NOT DISTINCT FROM key_secret_check
FROM directory_keys CROSS JOIN deployment WHERE digest = ANY (%s)
"""
_OUTDATED: Final = """
SELECT digest, secret_check
FROM directory_keys JOIN deployment ON secret_check IS DISTINCT FROM key_secret_check
ORDER BY digest
"""
_PUT_KEY: Final = """
INSERT INTO directory_keys (digest, organization_id, cell, secret_check) VALUES (%s, %s, %s, %s)
ON CONFLICT (digest) DO UPDATE SET secret_check = excluded.secret_check
"""
_FORGET_KEY: Final = "DELETE FROM directory_keys WHERE digest = %s"


async def find_keys(db: Connection, digests: Sequence[bytes]) -> dict[bytes, KeyPlace]:
    """The places of the keys with these digests, of those that there are."""
    cursor = await db.execute(_KEYS, (list(digests),))
    return {digest: KeyPlace(*place) for digest, *place in await cursor.fetchall()}


async def outdated_digests(db: Connection) -> list[tuple[bytes, bytes | None]]:
    """The digests that were not made with the secret in force, each with its secret's check."""
    return await (await db.execute(_OUTDATED)).fetchall()


async def put_key(
    db: Connection, digest: bytes, organization_id: UUID, cell: str, secret_check: bytes | None
) -> None:
    """Enter a key's digest: from now on the key is known.

    ``secret_check`` is of the secret that made the digest (core/access/key_secrets.py).
    """
    await db.execute(_PUT_KEY, (digest, organization_id, cell, secret_check))


async def forget_key(db: Connection, digest: bytes) -> None:
    """Delete a key's digest: from now on the key is unknown."""
    await db.execute(_FORGET_KEY, (digest,))


_COUNTS: Final = "SELECT cell, count(*) FROM directory_organizations GROUP BY cell"
_ORGANIZATIONS: Final = "SELECT id, name, cell FROM directory_organizations ORDER BY name"
_ORGANIZATIONS_AFTER: Final = """
SELECT id, name, cell FROM directory_organizations WHERE name > %s ORDER BY name LIMIT %s
"""
_ORGANIZATION: Final = """
SELECT id, name, cell FROM directory_organizations WHERE id = %s OR name = %s ORDER BY id <> %s
"""
_RESERVE: Final = """
INSERT INTO directory_organizations (id, name, cell) VALUES (%s, %s, %s)
ON CONFLICT (name) DO NOTHING RETURNING id
"""
_RENAME: Final = "UPDATE directory_organizations SET name = %s WHERE id = %s"
_FORGET_KEYS: Final = "DELETE FROM directory_keys WHERE organization_id = %s"
_FORGET: Final = "DELETE FROM directory_organizations WHERE id = %s"


async def count_organizations(db: Connection) -> dict[str, int]:
    """The number of organizations of each cell that has any."""
    return dict(await (await db.execute(_COUNTS)).fetchall())


async def list_organizations(db: Connection) -> list[OrganizationPlace]:
    """Every organization, by name."""
    return [OrganizationPlace(*row) for row in await (await db.execute(_ORGANIZATIONS)).fetchall()]


async def organizations_after(db: Connection, name: str, limit: int) -> list[OrganizationPlace]:
    """The organizations after that name, by name; after the empty one: from the beginning."""
    cursor = await db.execute(_ORGANIZATIONS_AFTER, (name, limit))
    return [OrganizationPlace(*row) for row in await cursor.fetchall()]


async def find_organization(
    db: Connection, organization_id: UUID | None, name: str | None
) -> OrganizationPlace | None:
    """The organization with that id, else with that exact name; None if there is none."""
    values = (organization_id, name, organization_id)
    row = await (await db.execute(_ORGANIZATION, values)).fetchone()
    return row and OrganizationPlace(*row)


async def reserve(db: Connection, place: OrganizationPlace) -> OrganizationPlace:
    """Enter an organization; returns the one that has its name, which may have been there before.

    An organization that is entered, and is not in its cell, is one whose making was interrupted.
    """
    while await (await db.execute(_RESERVE, place)).fetchone() is None:
        earlier = await find_organization(db, None, place.name)
        if earlier is not None:
            return earlier
    return place


async def rename(db: Connection, organization_id: UUID, name: str) -> None:
    """Give an organization another name; raises :class:`NameTakenError` if one has it."""
    try:
        await db.execute(_RENAME, (name, organization_id))
    except UniqueViolation as error:  # the name is all that was asked for
        raise NameTakenError(name) from error


async def forget_organization(db: Connection, organization_id: UUID) -> None:
    """Delete an organization and its keys from the directory: the last step of its removal."""
    async with db.transaction():
        await db.execute(_FORGET_KEYS, (organization_id,))
        await db.execute(_FORGET, (organization_id,))
