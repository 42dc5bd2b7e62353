"""Operators: who may use the management API and the console, by a token (docs/contract.md, 14).

A token is shown once and kept as a digest, like an API key. It is looked up at each request, so a
revocation is in force at once.
"""

from __future__ import annotations

import re
from datetime import datetime
from secrets import token_hex
from typing import Final, Literal
from uuid import UUID

from msgspec import Struct, structs
from psycopg.errors import UniqueViolation

from core import ids
from core.access.api_keys import digest
from core.access.key_secrets import KeySecrets, secret_in_force
from core.admin import checks
from core.admin.cell_sessions import CellSession
from core.admin.errors import AlreadyExistsError, InvalidValueError, NotFoundError, not_found
from core.postgres.audit import Change
from core.postgres.sessions import Connection
from core.timestamps import MAX_US, format_us, from_datetime, to_datetime

TOKEN_PREFIX: Final = "wp_ops_"  # noqa: S105 -- what all have
TOKEN_RANDOM_BYTES: Final = 16
HINT_CHARACTERS: Final = 4
LAST_USE_SECONDS: Final = 60  # the exactness of last_used_at

Scope = Literal["read", "write"]
State = Literal["active", "expired", "revoked"]

_TOKEN: Final = re.compile(rf"{TOKEN_PREFIX}[0-9a-f]{{{2 * TOKEN_RANDOM_BYTES}}}\Z")


class Operator(Struct, frozen=True):
    """An operator, with all but the token. ``hint``: its last characters."""

    id: UUID
    name: str
    scope: Scope
    hint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now_us: int) -> State:
        """Whether the token can be used now, and if not, why."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and from_datetime(self.expires_at) <= now_us:
            return "expired"
        return "active"


class TokenRefusedError(Exception):
    """A token that cannot be used; the message says why, without the token."""


_INSERT: Final = """
INSERT INTO operators (id, name, scope, digest, secret_check, hint, created_at, expires_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


async def create(
    home: CellSession,
    name: str,
    scope: Scope,
    secrets: KeySecrets,
    now_us: int,
    *,
    expires_us: int | None = None,
) -> tuple[Operator, str]:
    """Create an operator; returns the record and the token, which is not stored.

    Its digest is made with the secret that is in force. ``expires_us``: None for never.
    InvalidValueError if that has passed, AlreadyExistsError if an operator who is not revoked has
    the name.
    """
    checks.name("operator name", name)
    if expires_us is not None and not now_us < expires_us <= MAX_US:
        raise InvalidValueError("the expiry must be in the future, and before the year 10000")
    token = TOKEN_PREFIX + token_hex(TOKEN_RANDOM_BYTES)
    expires_at = None if expires_us is None else to_datetime(expires_us)
    made = Operator(
        ids.new(now_us),
        name,
        scope,
        token[-HINT_CHARACTERS:],
        to_datetime(now_us),
        expires_at,
        None,
        None,
    )
    secret = await secret_in_force(home.db, secrets)
    kept = (digest(token, secret.value), secret.check)
    row = (made.id, name, scope, *kept, made.hint, made.created_at, expires_at)
    change = Change("operator.create", None, ids.text(ids.OPERATOR, made.id))
    change.after = _audited(made)
    try:
        async with home.recording(change):
            await home.db.execute(_INSERT, row)
    except UniqueViolation as error:  # of the name: id and token are new
        raise AlreadyExistsError(f"an operator named {name!r} exists already") from error
    return made, token


_LIST: Final = """
SELECT id, name, scope, hint, created_at, expires_at, revoked_at, last_used_at
FROM operators ORDER BY name, id
"""


async def list_all(home: Connection) -> list[Operator]:
    """Every operator, revoked ones included, by name."""
    return [Operator(*row) for row in await (await home.execute(_LIST)).fetchall()]


async def find(home: Connection, given: str) -> Operator:
    """The operator with that id, else the one with that name who is not revoked, else the last.

    NotFoundError if there is none.
    """
    operator_id = ids.parse(ids.OPERATOR, given)
    known = await list_all(home)
    found = [one for one in known if one.id == operator_id or one.name == given]
    if not found:
        names = [one.name for one in known if one.revoked_at is None]
        raise not_found(
            "operator", given, names, "`wepeople-ingest operator list` shows those there are"
        )
    return max(found, key=lambda one: (one.id == operator_id, one.revoked_at is None, one.id))


_REVOKE: Final = """
UPDATE operators SET revoked_at = COALESCE(revoked_at, %s) WHERE id = %s RETURNING revoked_at
"""
_END_SIGN_INS: Final = "DELETE FROM sign_ins WHERE operator_id = %s"


async def revoke(home: CellSession, operator: Operator, now_us: int) -> Operator:
    """Revoke the token, and end the sessions of its browsers. Again is harmless."""
    change = Change("operator.revoke", None, ids.text(ids.OPERATOR, operator.id))
    async with home.recording(change):
        values = (to_datetime(now_us), operator.id)
        row = await (await home.db.execute(_REVOKE, values)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no operator {operator.name!r} any more")
        await home.db.execute(_END_SIGN_INS, (operator.id,))
        revoked = structs.replace(operator, revoked_at=row[0])
        change.before, change.after = _audited(operator), _audited(revoked)
    return revoked


_BY_DIGEST: Final = """
SELECT id, name, scope, hint, created_at, expires_at, revoked_at, last_used_at, digest,
    secret_check, secret_check IS DISTINCT FROM key_secret_check AND key_secret_check = %s
FROM operators CROSS JOIN deployment WHERE digest = ANY (%s)
"""
_NOTE_USE: Final = """
UPDATE operators SET last_used_at = %s, digest = %s, secret_check = %s WHERE id = %s
"""


async def authenticate(home: Connection, token: str, secrets: KeySecrets, now_us: int) -> Operator:
    """The operator whose token it is; TokenRefusedError if it cannot be used.

    A digest that was not made with the secret in force is renewed, if that is the wanted one.
    """
    if not _TOKEN.match(token):
        raise TokenRefusedError(f"this is no operator token: those begin with {TOKEN_PREFIX}")
    digests = secrets.digests(token)
    values = (secrets.wanted.check, list(digests))
    row = await (await home.execute(_BY_DIGEST, values)).fetchone()
    if row is None:
        raise TokenRefusedError("there is no such operator token")
    *record, stored, check, is_old = row
    operator = Operator(*record)
    check_active(operator, now_us)
    kept = (digests[0], secrets.wanted.check) if is_old else (stored, check)
    last_us = 0 if operator.last_used_at is None else from_datetime(operator.last_used_at)
    if is_old or now_us - last_us >= LAST_USE_SECONDS * 1_000_000:
        await home.execute(_NOTE_USE, (to_datetime(now_us), *kept, operator.id))
    return operator


def check_active(operator: Operator, now_us: int) -> None:
    """Raises TokenRefusedError if the operator's token is revoked or has expired."""
    state = operator.state(now_us)
    if state != "active":
        verb = "was revoked" if state == "revoked" else "has expired"
        raise TokenRefusedError(f"the token of the operator {operator.name!r} {verb}")


def _audited(operator: Operator) -> dict[str, object]:
    """An operator as the audit log has it, which is without the token and its digest."""
    return {
        "name": operator.name,
        "scope": operator.scope,
        "endsIn": operator.hint,
        "expiresAt": operator.expires_at and format_us(from_datetime(operator.expires_at)),
        "revokedAt": operator.revoked_at and format_us(from_datetime(operator.revoked_at)),
    }
