"""Names that begin with what was typed, a bounded number: for completion in a shell."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, LiteralString

from core import ids
from core.admin.cell_sessions import CellSessions
from core.postgres.sessions import Connection

MAX_NAMES: Final = 100
MAX_KEYS_READ: Final = 1_000  # of a cell, the latest

_ORGANIZATIONS: Final = """
SELECT name FROM directory_organizations WHERE starts_with(name, %(start)s)
ORDER BY name LIMIT %(most)s
"""
_APPS: Final = """
SELECT organizations.name, slug FROM apps JOIN organizations ON organizations.id = organization_id
WHERE starts_with(slug, %(start)s) OR starts_with(organizations.name || '/' || slug, %(start)s)
ORDER BY organizations.name, slug LIMIT %(most)s
"""
_SLUGS: Final = """
SELECT DISTINCT slug FROM apps WHERE starts_with(slug, %(start)s) ORDER BY slug LIMIT %(most)s
"""
_KEYS: Final = """
SELECT api_keys.id, hint, organizations.name || '/' || slug FROM api_keys
JOIN apps ON apps.organization_id = api_keys.organization_id AND apps.id = app_id
JOIN organizations ON organizations.id = api_keys.organization_id
WHERE revoked_at IS NULL ORDER BY api_keys.id DESC LIMIT %(most)s
"""


async def organizations(cells: CellSessions, start: str) -> list[str]:
    """Names of organizations, of every cell."""
    values = {"start": start, "most": MAX_NAMES}
    return [name for (name,) in await (await cells.home.execute(_ORGANIZATIONS, values)).fetchall()]


async def apps(cells: CellSessions, start: str) -> list[str]:
    """Slugs of apps that one organization alone has, and ORG/SLUG."""
    found = await _everywhere(cells, _APPS, {"start": start, "most": MAX_NAMES})
    times = Counter(slug for _, slug in found)
    slugs = [slug for slug, count in times.items() if count == 1 and slug.startswith(start)]
    names = [name for one in found if (name := "/".join(one)).startswith(start)]
    return sorted({*slugs, *names})[:MAX_NAMES]


async def slugs(cells: CellSessions, start: str) -> list[str]:
    """Slugs of apps, of whatever organization."""
    found = await _everywhere(cells, _SLUGS, {"start": start, "most": MAX_NAMES})
    return sorted({slug for (slug,) in found})[:MAX_NAMES]


async def keys(cells: CellSessions, start: str) -> list[tuple[str, str]]:
    """Ids of keys that were not revoked, the latest, each with its last characters and its app."""
    found = await _everywhere(cells, _KEYS, {"most": MAX_KEYS_READ})
    named = [(ids.text(ids.KEY, key), f"…{hint} {app}") for key, hint, app in found]
    return [one for one in named if one[0].startswith(start)][:MAX_NAMES]


async def _everywhere(
    cells: CellSessions, query: LiteralString, values: dict[str, object]
) -> list[tuple[Any, ...]]:
    async def read(db: Connection) -> list[tuple[Any, ...]]:
        return await (await db.execute(query, values)).fetchall()

    return [row for _, row in await cells.everywhere(read)]
