"""Sign-ins to the console: links that sign in once, and the sessions of browsers (contract, 14).

Each is a random text that only its holder has; the home database has its digest. So every server
knows it, and none can give it away.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from core.admin import operators
from core.admin.operators import Operator, TokenRefusedError
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

LINK_SECONDS: Final = 15 * 60
SESSION_SECONDS: Final = 12 * 3_600
MAX_SIGN_INS: Final = 20  # of an operator; one more ends the oldest
RANDOM_BYTES: Final = 32

_ROOM: Final = """
DELETE FROM sign_ins WHERE expires_at <= %(now)s OR digest IN (
    SELECT digest FROM sign_ins WHERE operator_id = %(operator)s
    ORDER BY created_at DESC, digest OFFSET %(kept)s)
"""
_INSERT: Final = """
INSERT INTO sign_ins (digest, operator_id, is_link, created_at, expires_at)
VALUES (%s, %s, %s, %s, %s)
"""


async def make_link(home: Connection, operator: Operator, now_us: int) -> str:
    """The secret part of a link that signs in as the operator, once, within LINK_SECONDS."""
    return await _make(home, operator, now_us, LINK_SECONDS, is_link=True)


async def begin_session(home: Connection, operator: Operator, now_us: int) -> str:
    """The secret of a new session of a browser, which ends after SESSION_SECONDS."""
    return await _make(home, operator, now_us, SESSION_SECONDS, is_link=False)


async def _make(
    home: Connection, operator: Operator, now_us: int, seconds: int, *, is_link: bool
) -> str:
    secret = secrets.token_urlsafe(RANDOM_BYTES)
    now, ends = to_datetime(now_us), to_datetime(now_us + seconds * 1_000_000)
    async with home.transaction():
        room = {"now": now, "operator": operator.id, "kept": MAX_SIGN_INS - 1}
        await home.execute(_ROOM, room)
        await home.execute(_INSERT, (_digest(secret), operator.id, is_link, now, ends))
    return secret


_COLUMNS: Final = """operators.id, name, scope, hint, operators.created_at, operators.expires_at,
    revoked_at, last_used_at"""
_USE_LINK: Final = f"""
DELETE FROM sign_ins USING operators
WHERE sign_ins.digest = %s AND is_link AND sign_ins.expires_at > %s AND operators.id = operator_id
RETURNING {_COLUMNS}
"""  # noqa: S608 -- of constants
_SESSION: Final = f"""
SELECT {_COLUMNS} FROM sign_ins JOIN operators ON operators.id = operator_id
WHERE sign_ins.digest = %s AND NOT is_link AND sign_ins.expires_at > %s
"""  # noqa: S608 -- of constants
_END: Final = "DELETE FROM sign_ins WHERE digest = %s"


async def use_link(home: Connection, secret: str, now_us: int) -> Operator:
    """The operator whose link it is, which ends with it; TokenRefusedError if there is none."""
    return await _operator(
        home, _USE_LINK, secret, now_us, "the link was used already, or is too old"
    )


async def operator_of(home: Connection, secret: str, now_us: int) -> Operator:
    """The operator whose session it is; TokenRefusedError if it has ended."""
    return await _operator(home, _SESSION, secret, now_us, "the session has ended: sign in again")


async def end_session(home: Connection, secret: str) -> None:
    """End a session, if it has not ended."""
    await home.execute(_END, (_digest(secret),))


async def _operator(
    home: Connection, query: str, secret: str, now_us: int, refusal: str
) -> Operator:
    row = await (await home.execute(query, (_digest(secret), to_datetime(now_us)))).fetchone()
    if row is None:
        raise TokenRefusedError(refusal)
    operator = Operator(*row)
    operators.check_active(operator, now_us)
    return operator


def _digest(secret: str) -> bytes:
    """A plain digest: the secret has 256 random bits."""
    return hashlib.sha256(secret.encode()).digest()
