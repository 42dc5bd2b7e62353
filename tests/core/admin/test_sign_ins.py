"""Links that sign in once, and the sessions of browsers."""

from __future__ import annotations

import pytest

from core.access.key_secrets import KeySecret, KeySecrets
from core.admin import operators, sign_ins
from core.admin.cell_sessions import at_home
from core.admin.operators import TokenRefusedError
from core.admin.sign_ins import LINK_SECONDS, MAX_SIGN_INS, SESSION_SECONDS
from core.postgres.sessions import connect
from tests.support.tenant import now_us

pytestmark = pytest.mark.anyio

SECRET = KeySecret(b"of the digests", None)
SECRETS = KeySecrets(SECRET, (SECRET,))


async def test_a_link_signs_in_once(database_url: str) -> None:
    async with await connect(database_url) as db:
        ann, _ = await operators.create(at_home(db), "ann", "read", SECRETS, now_us())
        link = await sign_ins.make_link(db, ann, now_us())
        with pytest.raises(TokenRefusedError):  # a link is no session
            await sign_ins.operator_of(db, link, now_us())
        assert await sign_ins.use_link(db, link, now_us()) == ann
        with pytest.raises(TokenRefusedError, match="used already"):
            await sign_ins.use_link(db, link, now_us())
        session = await sign_ins.begin_session(db, ann, now_us())
        with pytest.raises(TokenRefusedError):  # and a session no link
            await sign_ins.use_link(db, session, now_us())


async def test_links_and_sessions_end(database_url: str) -> None:
    now = now_us()
    async with await connect(database_url) as db:
        ann, _ = await operators.create(at_home(db), "ann", "read", SECRETS, now)
        link = await sign_ins.make_link(db, ann, now)
        session = await sign_ins.begin_session(db, ann, now)
        assert await sign_ins.operator_of(db, session, now + 1) == ann
        with pytest.raises(TokenRefusedError):
            await sign_ins.use_link(db, link, now + LINK_SECONDS * 1_000_000)
        with pytest.raises(TokenRefusedError, match="sign in again"):
            await sign_ins.operator_of(db, session, now + SESSION_SECONDS * 1_000_000)
        await sign_ins.end_session(db, session)
        with pytest.raises(TokenRefusedError):
            await sign_ins.operator_of(db, session, now + 1)


async def test_one_sign_in_too_many_ends_the_oldest(database_url: str) -> None:
    now = now_us()
    async with await connect(database_url) as db:
        ann, _ = await operators.create(at_home(db), "ann", "read", SECRETS, now)
        begun = [
            await sign_ins.begin_session(db, ann, now + number)
            for number in range(MAX_SIGN_INS + 1)
        ]
        with pytest.raises(TokenRefusedError):
            await sign_ins.operator_of(db, begun[0], now + 100)
        for session in begun[1:]:
            assert await sign_ins.operator_of(db, session, now + 100) == ann
