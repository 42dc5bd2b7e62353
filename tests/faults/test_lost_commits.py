"""A COMMIT whose connection is lost: its transaction took effect once, or not at all."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

import core.journal.commit_status
import core.postgres.node
from core.journal.transaction import MAX_WHOLE_EVENTS
from tests.faults.conftest import Client, check_unavailable
from tests.support.grpc_driver import GrpcDriver
from tests.support.postgres_proxy import PostgresProxy
from tests.support.running_service import RunningService
from tests.support.stream_client import Stream
from tests.support.tenant import event, make_tenant
from tests.support.two_cells import IN_HOME_DATABASE
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sent whole", "rows copied", "workers new"])
async def stored_before(request: pytest.FixtureRequest, client: Client) -> int:
    """How many events are stored before the test, which posts the same batch.

    Events of workers that are known are written by an optimistic transaction, and a few of one
    request are sent with the COMMIT. Others are written stepwise.
    """
    if request.param == "rows copied":
        client.batch = MAX_WHOLE_EVENTS + 1
    if request.param != "workers new":
        assert (await client.post()).status_code == 202
    return await client.stored()


@pytest.mark.parametrize("key", [None, "batch-1"])
async def test_a_commit_that_was_not_answered_took_effect_once(
    proxy: PostgresProxy, client: Client, stored_before: int, key: str | None
) -> None:
    proxy.cut_commits("after")
    response = await client.post(key)
    assert proxy.commits_to_cut == 0
    assert (response.status_code, response.json()["accepted"]) == (202, client.batch)
    assert await client.stored() == stored_before + client.batch
    if key is not None:
        replay = await client.post(key)
        assert replay.headers["idempotency-replayed"] == "true"
        assert replay.content == response.content
        assert await client.stored() == stored_before + client.batch


@pytest.mark.parametrize("key", [None, "batch-1"])
async def test_a_commit_that_never_arrived_is_made_again(
    proxy: PostgresProxy, client: Client, stored_before: int, key: str | None
) -> None:
    proxy.cut_commits("before")
    response = await client.post(key)
    assert proxy.commits_to_cut == 0
    assert (response.status_code, response.json()["accepted"]) == (202, client.batch)
    assert await client.stored() == stored_before + client.batch


async def test_commits_that_never_arrive_are_an_error_and_nothing(
    proxy: PostgresProxy, client: Client
) -> None:
    proxy.cut_commits("before", 1_000)
    check_unavailable(await client.post("batch-1"))
    assert await client.stored() == 0
    proxy.cut_commits("before", 0)
    response = await client.post("batch-1")
    assert response.status_code == 202
    assert "idempotency-replayed" not in response.headers
    assert await client.stored() == 2


@pytest.mark.usefixtures("short_timeouts")
async def test_a_database_that_left_before_leaves_nothing_in_doubt(
    proxy: PostgresProxy, client: Client
) -> None:
    assert (await client.post()).status_code == 202
    proxy.go_away()
    response = await client.post()
    proxy.come_back()
    check_unavailable(response)
    assert "may or may not" not in response.json()["error"]["message"]
    assert await client.stored() == 2


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_the_rejections_of_a_producer_outlive_a_commit_that_was_not_answered(
    proxy: PostgresProxy, database_url: str, moment: Literal["before", "after"]
) -> None:
    tenant = await make_tenant(database_url, IN_HOME_DATABASE)
    with RunningService(proxy.conninfo) as service:
        grpc = GrpcDriver(service.addresses.grpc)
        one = Stream(grpc.channel, tenant.key)
        await one.open("producer-1")
        proxy.cut_commits(moment)
        await one.send(event(category="?"), sequence=1)  # no row is written
        rejected = await one.ack()
        assert proxy.commits_to_cut == 0
        await one.send(event(), sequence=2)
        accepted = await one.ack()
        await one.close()
        await grpc.close()
    assert (rejected.sequence, rejected.accepted, rejected.duplicate) == (1, 0, False)
    assert [one.code for one in rejected.rejected] == ["invalid_body"]
    assert (accepted.sequence, accepted.accepted, accepted.duplicate) == (2, 1, False)
    assert len(await tenant.events()) == await tenant.used() == 1


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the service give up soon on a database that is away."""
    monkeypatch.setattr(core.postgres.node, "CHECKOUT_SECONDS", 2.0)
    monkeypatch.setattr(core.journal.commit_status, "STATUS_SECONDS", 0.3)


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("key", [None, "batch-1"])
async def test_a_commit_whose_status_stays_unknown_is_not_made_again(
    proxy: PostgresProxy, client: Client, caplog: pytest.LogCaptureFixture, key: str | None
) -> None:
    async def come_back_once_given_up() -> None:
        try:
            given_up = "the service gives up asking for the status of the transaction"
            await eventually(lambda: "stays unknown" in caplog.text, given_up, seconds=10)
        finally:
            proxy.come_back()

    proxy.on_lost_answer = proxy.go_away
    proxy.cut_commits("after")
    back = asyncio.create_task(come_back_once_given_up())
    response = await client.post(key)
    await back
    check_unavailable(response)
    assert "may or may not be stored" in response.json()["error"]["message"]
    assert await client.stored() == 2
    if key is not None:
        # The pool needs a moment to connect again; a client retries.
        await eventually(lambda: client.is_accepted(key), "a retry is answered", seconds=10)
        assert (await client.post(key)).headers["idempotency-replayed"] == "true"
        assert await client.stored() == 2
