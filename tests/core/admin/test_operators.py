"""Operators: their tokens, as they are made, used and revoked."""

from __future__ import annotations

import pytest

from core import ids
from core.access.key_secrets import KeySecret, KeySecrets, key_secrets
from core.admin import audit, operators, sign_ins
from core.admin.cell_sessions import CellSession, CellSessions, at_home
from core.admin.errors import (
    AdministrationError,
    AlreadyExistsError,
    InvalidValueError,
    NotFoundError,
)
from core.admin.key_secrets import rotate, tokens_with_old_digests
from core.admin.operators import Operator, TokenRefusedError
from core.postgres.errors import DatabaseUnusableError
from core.postgres.sessions import connect
from core.timestamps import from_datetime
from tests.support.tenant import now_us

pytestmark = pytest.mark.anyio

SECRET = KeySecret(b"of the digests", None)
SECRETS = KeySecrets(SECRET, (SECRET,))
FIRST = "the operator's first secret"
SECOND = "the operator's second secret"
MINUTE_US = 60_000_000


async def made(home: CellSession, name: str = "ann") -> tuple[Operator, str]:
    """A new operator who may write, and the token."""
    return await operators.create(home, name, "write", SECRETS, now_us())


async def test_of_a_token_its_digest_and_last_characters_are_stored(database_url: str) -> None:
    async with await connect(database_url) as db:
        operator, token = await made(at_home(db))
        cursor = await db.execute("SELECT operators::text, hint FROM operators")
        row = await cursor.fetchone()
        assert row is not None
        assert token not in row[0]
        assert row[1] == token[-4:]
        assert await operators.authenticate(db, token, SECRETS, now_us()) == operator
        entries = await audit.newest(db, await audit.select(db, None), 10)
        assert [(one.action, one.subject) for one in entries] == [
            ("operator.create", ids.text(ids.OPERATOR, operator.id))
        ]
        assert token not in repr(entries)


@pytest.mark.parametrize("given", ["", "wp_ops_1", "wp_ops_" + "0" * 32, "wp_live_" + "0" * 32])
async def test_an_unknown_token_is_refused(database_url: str, given: str) -> None:
    async with await connect(database_url) as db:
        await made(at_home(db))
        with pytest.raises(TokenRefusedError):
            await operators.authenticate(db, given, SECRETS, now_us())


async def test_a_revoked_token_and_its_sessions_end(database_url: str) -> None:
    async with await connect(database_url) as db:
        operator, token = await made(at_home(db))
        session = await sign_ins.begin_session(db, operator, now_us())
        revoked = await operators.revoke(at_home(db), operator, now_us())
        assert await operators.revoke(at_home(db), operator, now_us() + 1) == revoked
        with pytest.raises(TokenRefusedError, match="revoked"):
            await operators.authenticate(db, token, SECRETS, now_us())
        with pytest.raises(TokenRefusedError):
            await sign_ins.operator_of(db, session, now_us())
        await made(at_home(db))  # the name is free again


async def test_a_token_expires(database_url: str) -> None:
    now = now_us()
    async with await connect(database_url) as db:
        operator, token = await operators.create(
            at_home(db), "ann", "read", SECRETS, now, expires_us=now + MINUTE_US
        )
        session = await sign_ins.begin_session(db, operator, now)
        assert (await operators.authenticate(db, token, SECRETS, now)).scope == "read"
        for proof in (
            operators.authenticate(db, token, SECRETS, now + MINUTE_US),
            sign_ins.operator_of(db, session, now + MINUTE_US),
        ):
            with pytest.raises(TokenRefusedError, match="expired"):
                await proof


async def test_a_name_is_that_of_one_operator(database_url: str) -> None:
    async with await connect(database_url) as db:
        operator, _ = await made(at_home(db))
        with pytest.raises(AlreadyExistsError):
            await made(at_home(db))
        with pytest.raises(InvalidValueError):
            await made(at_home(db), "")
        assert await operators.find(db, "ann") == operator
        assert await operators.find(db, ids.text(ids.OPERATOR, operator.id)) == operator
        with pytest.raises(NotFoundError, match="did you mean 'ann'"):
            await operators.find(db, "anne")


async def test_the_last_use_is_noted_to_the_minute(database_url: str) -> None:
    now = now_us()
    async with await connect(database_url) as db:
        _, token = await made(at_home(db))

        async def used_at(moment_us: int) -> int | None:
            await operators.authenticate(db, token, SECRETS, moment_us)
            last = (await operators.find(db, "ann")).last_used_at
            return None if last is None else from_datetime(last)

        assert await used_at(now) == now
        assert await used_at(now + MINUTE_US - 1) == now
        assert await used_at(now + MINUTE_US) == now + MINUTE_US


async def test_a_token_outlives_the_first_secret_that_is_configured(database_url: str) -> None:
    async with await connect(database_url) as db, CellSessions(db, database_url, 10) as cells:
        internal = await key_secrets(db)
        made, token = await operators.create(at_home(db), "ann", "write", internal, now_us())
        waiting = await key_secrets(db, FIRST)
        assert waiting.in_force != waiting.wanted  # as beside keys
        assert await rotate(cells, waiting, now_us())
        started = await key_secrets(db, FIRST)
        assert (await operators.authenticate(db, token, started, now_us())).id == made.id
        assert len((await key_secrets(db, FIRST)).accepted) == 1  # the token was renewed


async def test_a_token_is_made_with_the_secret_that_came_into_force_meanwhile(
    database_url: str,
) -> None:
    async with await connect(database_url) as db, CellSessions(db, database_url, 10) as cells:
        first = await key_secrets(db, FIRST)
        started = await key_secrets(db, SECOND, FIRST)
        assert await rotate(cells, started, now_us())
        _, token = await operators.create(at_home(db), "ann", "write", started, now_us())
        await operators.authenticate(db, token, await key_secrets(db, SECOND), now_us())
        with pytest.raises(DatabaseUnusableError, match="was started without the new one"):
            await operators.create(at_home(db), "zoe", "write", first, now_us())


async def test_a_digest_is_renewed_at_use_once_another_secret_is_in_force(
    database_url: str,
) -> None:
    async with await connect(database_url) as db, CellSessions(db, database_url, 10) as cells:
        first = await key_secrets(db, FIRST)
        made, token = await operators.create(at_home(db), "ann", "write", first, now_us())
        waiting = await key_secrets(db, SECOND, FIRST)
        for secrets in (first, waiting, first):  # nothing is renewed that one of them would lose
            assert (await operators.authenticate(db, token, secrets, now_us())).id == made.id
        assert await rotate(cells, waiting, now_us())
        assert await tokens_with_old_digests(db, now_us()) == 1
        third = await key_secrets(db, "the operator's third secret", SECOND)
        with pytest.raises(AdministrationError, match="operators: 1"):
            await rotate(cells, third, now_us())
        second = await key_secrets(db, SECOND)
        with pytest.raises(TokenRefusedError):
            await operators.authenticate(db, token, second, now_us())
        await operators.authenticate(db, token, waiting, now_us())
        assert await tokens_with_old_digests(db, now_us()) == 0
        assert (await operators.authenticate(db, token, second, now_us())).id == made.id
        with pytest.raises(TokenRefusedError):
            await operators.authenticate(db, token, first, now_us())
