"""Idempotency keys under concurrency, across replicas: one is written, everybody is told of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.behaviour.examples import KEY, broken, send, written
from tests.support.driver import Driver
from tests.support.tenant import Tenant, event

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
