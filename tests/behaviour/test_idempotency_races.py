"""Idempotency keys under concurrency, across replicas: one is written, everybody is told of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

import core.journal.journal
from core.postgres.directory import HOME
from tests.behaviour.conftest import Connect
from tests.behaviour.examples import KEY, broken, send, written
from tests.support.driver import Driver
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, event, make_tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_simultaneous_equal_requests_write_once_and_get_one_answer(
    replicas: tuple[Driver, Driver], tenant: Tenant, endpoint: str
) -> None:
    replies = await asyncio.gather(
        *(send(replicas[index % 2], tenant, endpoint) for index in range(100))
    )
    assert {reply.code for reply in replies} == {None}
    assert all(reply.answer == replies[0].answer for reply in replies)
    assert sum(not reply.replayed for reply in replies) == 1
    assert await written(tenant) == 1
    assert len(await tenant.workers()) == 1


async def test_of_simultaneous_different_requests_one_is_written(
    replicas: tuple[Driver, Driver], tenant: Tenant, endpoint: str
) -> None:
    replies = await asyncio.gather(
        *(
            send(replicas[index % 2], tenant, endpoint, metadata={"body": index // 2 % 3})
            for index in range(60)
        )
    )
    answers = [reply.answer for reply in replies if reply.code is None]
    assert len(answers) == 20
    assert all(answer == answers[0] for answer in answers)
    assert {reply.code for reply in replies} == {None, "invalid_body"}
    assert await written(tenant) == 1


async def test_of_simultaneous_refused_and_good_requests_the_good_one_is_written(
    replicas: tuple[Driver, Driver], tenant: Tenant
) -> None:
    """A request that wrote nothing gives its key back, also to one that waited for it."""
    batches = [[broken("worker_not_found")], [event()]] * 20
    replies = await asyncio.gather(
        *(
            replicas[index // 2 % 2].ingest(tenant.key, batch, KEY)
            for index, batch in enumerate(batches)
        )
    )
    assert {reply.code for reply in replies[1::2]} == {None}
    assert {reply.code for reply in replies[::2]} <= {"worker_not_found", "invalid_body"}
    assert await written(tenant) == 1


async def test_an_answer_is_replayed_by_every_replica(
    replicas: tuple[Driver, Driver], tenant: Tenant, endpoint: str
) -> None:
    first, again = [await send(client, tenant, endpoint) for client in replicas]
    assert again.replayed
    assert again.answer == first.answer


HANG_IN_COMMIT = """
CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    WHILE NOT pg_try_advisory_xact_lock(42) LOOP PERFORM pg_sleep(0.02); END LOOP;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON idempotency_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang()
"""
HANGS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
)


@contextlib.asynccontextmanager
async def hanging_commits(tenant: Tenant) -> AsyncIterator[None]:
    """Every COMMIT of an idempotency key in the tenant's cell hangs until the block ends.

    The cell is at home: Citus has no triggers.
    """
    await tenant.rows(HANG_IN_COMMIT)
    async with await tenant.connect() as db:
        await db.execute("SELECT pg_advisory_lock(42)")
        yield


@pytest.mark.timed
@pytest.mark.parametrize("where", ["the same process", "another process"])
async def test_an_equal_request_waits_for_the_first_as_long_as_any_answer_may_take(
    connect: Connect,
    own_server: Addresses,
    endpoint: str,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core.journal.journal, "MAX_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(core.journal.journal, "MAX_ANSWER_SECONDS", 2.5)
    tenant = await make_tenant(own_server.database_url, cell_name=HOME)
    with contextlib.ExitStack() as stack:
        client = other = connect(own_server)
        if where == "another process":
            service = stack.enter_context(RunningService(own_server.database_url))
            other = connect(service.addresses)
        async with hanging_commits(tenant):
            first = asyncio.create_task(send(client, tenant, endpoint))

            async def hangs() -> bool:
                return bool(await tenant.rows(HANGS))

            await eventually(hangs, "the first request's COMMIT hangs")
            again = [asyncio.create_task(send(other, tenant, endpoint)) for _ in range(3)]
            await asyncio.wait(again, timeout=1.8)  # a moment before any request is given up
            assert not any(sent.done() for sent in again)
        replies = [await sent for sent in again]
        await first
    assert [(reply.code, reply.replayed) for reply in replies] == [(None, True)] * 3
    assert await written(tenant) == 1
