"""One watch for the keys of all open streams."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import pytest

from core.access import key_cache, key_watch
from core.access.authentication import Authenticator
from core.access.invalidation import Invalidation
from core.access.key_secrets import key_secrets
from core.access.key_watch import KeyWatch
from core.clock import Clock
from core.errors import IngestError
from core.postgres.database import Database
from tests.support.tenant import Tenant, make_tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def authenticator(database: Database) -> Authenticator:
    """One that hears of no change, so that it reads each key again and again."""
    async with database.connection() as db:
        secret = await key_secrets(db, None)
    clock = Clock()

    async def database_of(_: str) -> Database:
        return database

    return Authenticator(database, database_of, Invalidation(database, clock), clock, secret)


def bearer(tenant: Tenant) -> str:
    return f"Bearer {tenant.key}"


async def test_the_streams_of_a_lost_key_are_told_and_no_others(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "MAX_KEY_AGE_SECONDS", 0.05)
    monkeypatch.setattr(key_watch, "MAX_CALLER_AGE_SECONDS", 0.01)
    tenants = [await make_tenant(database_url) for _ in range(2)]
    lost: list[tuple[int, BaseException]] = []

    def note(number: int, error: BaseException) -> None:
        lost.append((number, error))

    before = len(asyncio.all_tasks())
    async with Database(database_url) as database:
        watch = KeyWatch(await authenticator(database))
        with contextlib.ExitStack() as streams:
            for number in range(20):
                on_loss = partial(note, number)
                streams.enter_context(watch.watching(bearer(tenants[number % 2]), on_loss))
            assert len(asyncio.all_tasks()) - before < 20  # the pool's are among them
            await tenants[0].revoke()
            await eventually(lambda: len(lost) >= 10, "all streams of the key are told")
            assert {number % 2 for number, _ in lost} == {0}
            errors = [error for _, error in lost[:10]]
            assert {error.code for error in errors if isinstance(error, IngestError)} == {
                "key_revoked"
            }
            assert len(set(map(id, errors))) == 10  # each raises its own
        assert watch._task is None
        assert not watch._watched
        with watch.watching(bearer(tenants[1]), lambda error: lost.append((-1, error))):
            await tenants[1].expire()
            await eventually(lambda: lost[-1][0] == -1, "a later stream is watched too")


async def test_a_database_that_is_away_ends_no_stream_and_delays_no_other_key(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_watch, "MAX_CALLER_AGE_SECONDS", 0.01)
    hung, other = [await make_tenant(database_url) for _ in range(2)]
    async with Database(database_url) as database:
        authenticates = await authenticator(database)
        real = authenticates.authenticate
        asked: list[str | None] = []

        async def authenticate(authorization: str | None) -> object:
            asked.append(authorization)
            if authorization == bearer(hung):
                await asyncio.Event().wait()
            return await real(authorization)

        monkeypatch.setattr(authenticates, "recall", lambda _: None)
        monkeypatch.setattr(authenticates, "authenticate", authenticate)
        watch, lost = KeyWatch(authenticates), [False, False]
        with (
            watch.watching(bearer(hung), lambda _: lost.__setitem__(0, True)),
            watch.watching(bearer(other), lambda _: lost.__setitem__(1, True)),
        ):
            await eventually(lambda: asked.count(bearer(other)) >= 2, "the other key is read")
            assert asked.count(bearer(hung)) == 1
            await other.expire()
            await eventually(lambda: lost[1], "the other key is lost")
            assert not lost[0]
