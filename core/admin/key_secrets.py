"""The change of the secret of key digests, as operators make it (core/access/key_secrets.py)."""

from __future__ import annotations

from functools import partial
from typing import Final
from uuid import UUID

from core.access.invalidation import CHANNEL
from core.access.key_secrets import KeySecret, KeySecrets
from core.admin.cell_sessions import CellSessions, at_home
from core.admin.errors import AdministrationError
from core.postgres import directory
from core.postgres.audit import Change
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

MAX_DIGESTS_AT_ONCE: Final = 10_000  # that a cell is asked for
CHECK_CHARACTERS: Final = 8  # of a check in the audit log, which tell secrets apart

_WORKING: Final = """
SELECT id FROM api_keys
WHERE digest = ANY (%s) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %s)
"""


async def keys_with_old_digests(
    cells: CellSessions, now_us: int, but: KeySecret | None = None
) -> set[UUID]:
    """The keys that work only while a secret is accepted that is not in force, ``but`` for one.

    Those of a cell that does not answer are left out, as of :meth:`CellSessions.everywhere`.
    """
    found_outdated = await directory.outdated_digests(cells.home)
    outdated = [digest for digest, check in found_outdated if but is None or check != but.check]
    found: set[UUID] = set()
    for start in range(0, len(outdated), MAX_DIGESTS_AT_ONCE):
        some = outdated[start : start + MAX_DIGESTS_AT_ONCE]
        of_cells = await cells.everywhere(partial(_working, digests=some, now_us=now_us))
        found.update(key_id for _, key_id in of_cells)
    return found


async def _working(db: Connection, digests: list[bytes], now_us: int) -> list[UUID]:
    rows = await (await db.execute(_WORKING, (digests, to_datetime(now_us)))).fetchall()
    return [key_id for (key_id,) in rows]


_WORKING_TOKENS: Final = """
SELECT secret_check FROM operators JOIN deployment ON secret_check IS DISTINCT FROM key_secret_check
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %s)
"""


async def tokens_with_old_digests(
    home: Connection, now_us: int, but: KeySecret | None = None
) -> int:
    """The number of operators' tokens that work only while such a secret is accepted."""
    rows = await (await home.execute(_WORKING_TOKENS, (to_datetime(now_us),))).fetchall()
    return sum(but is None or check != but.check for (check,) in rows)


# Servers distrust what they have cached, so that keys that are in use are looked up and renewed.
_ROTATE: Final = """
WITH changed AS (
    UPDATE deployment
    SET key_secret_check = %(new)s, key_secret_previous_check = key_secret_check
    WHERE key_secret_check IS NOT DISTINCT FROM %(old)s
    RETURNING 1)
SELECT pg_notify(%(channel)s, 'key secret') FROM changed
"""


async def rotate(cells: CellSessions, secrets: KeySecrets, now_us: int) -> bool:
    """Put the wanted secret in force, on every server within a second; False if it is already.

    Every server has to accept it by then. AdministrationError if keys would be lost that still
    depend on a secret of before.
    """
    old, new = secrets.in_force, secrets.wanted
    if old == new:
        return False
    waiting = len(await keys_with_old_digests(cells, now_us, but=new))
    cells.check_all_answered()
    tokens = await tokens_with_old_digests(cells.home, now_us, but=new)
    if waiting or tokens:
        raise AdministrationError(
            f"keys that still depend on an even older secret: {waiting}, operators: {tokens}. "
            "`wepeople-ingest key list` tells of them; they are renewed when they are used, or "
            "revoke or replace them"
        )
    change = Change("secret.rotate", None, "key digests")
    change.before, change.after = {"check": _shown(old)}, {"check": _shown(new)}
    values = {"new": new.check, "old": old.check, "channel": CHANNEL}
    async with at_home(cells.home, cells.actor).recording(change):
        if await (await cells.home.execute(_ROTATE, values)).fetchone() is None:
            raise AdministrationError("the secret was changed at this moment: look again")
    return True


def _shown(secret: KeySecret) -> str:
    return "database" if secret.check is None else secret.check.hex()[:CHECK_CHARACTERS]
