"""The way to PostgreSQL is lost, at the worst moments, and comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Literal

import httpx
import psycopg
import pytest

import core.journal.commit_status
import core.postgres.database
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.postgres_proxy import Proxy
from tests.support.running_service import RunningService
from tests.support.stream_client import Stream
from tests.support.tenant import Tenant, event, make_tenant

pytestmark = pytest.mark.anyio


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(database_url) as proxy:
        yield proxy


@dataclass
class Client:
    """A tenant of a service whose database is behind the proxy."""

    tenant: Tenant
    http: HttpDriver

    async def post(self, idempotency_key: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tenant.key}"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        body = {"events": [event(), event("other")]}
        begin = time.monotonic()
        response = await self.http.client.post("/api/v1/ingest/events", json=body, headers=headers)
        assert time.monotonic() - begin < 15, "clients have given up by now"
        return response

    async def prepare(self, known: bool) -> int:
        """Have the people of :meth:`post` known, or not; returns how many events are stored."""
        if known:
            assert (await self.post()).status_code == 202
        return await self.stored()

    async def stored(self) -> int:
        stored = len(await self.tenant.events())
        assert stored == await self.tenant.used(), "the quota is charged for what is stored"
        return stored


@pytest.fixture
async def client(proxy: Proxy, database_url: str) -> AsyncIterator[Client]:
    tenant = await make_tenant(database_url)
    with RunningService(proxy.conninfo) as service:
        http = HttpDriver(service.addresses.http)
        yield Client(tenant, http)
        proxy.freeze(False)
        proxy.away(False)
        await http.close()


def check_unavailable(response: httpx.Response) -> None:
    assert response.status_code == 500, response.text
    assert response.json()["error"]["code"] == "internal_error"
    assert int(response.headers["retry-after"]) >= 1


# --- a COMMIT without an answer -----------------------------------------------------------------

# The events of people who are known are written at once, those of others step by step.
known_or_not = pytest.mark.parametrize("known", [True, False])


@known_or_not
@pytest.mark.parametrize("key", [None, "batch-1"])
async def test_a_commit_that_was_not_answered_took_effect_once(
    proxy: Proxy, client: Client, key: str | None, known: bool
) -> None:
    before = await client.prepare(known)
    proxy.cuts, proxy.commits_to_cut = "after", 1
    response = await client.post(key)
    assert proxy.commits_to_cut == 0
    assert (response.status_code, response.json()["accepted"]) == (202, 2)
    assert await client.stored() == before + 2
    if key is not None:
        replay = await client.post(key)
        assert replay.headers["idempotency-replayed"] == "true"
        assert replay.content == response.content
        assert await client.stored() == before + 2


@known_or_not
@pytest.mark.parametrize("key", [None, "batch-1"])
async def test_a_commit_that_never_arrived_is_made_again(
    proxy: Proxy, client: Client, key: str | None, known: bool
) -> None:
    before = await client.prepare(known)
    proxy.cuts, proxy.commits_to_cut = "before", 1
    response = await client.post(key)
    assert proxy.commits_to_cut == 0
    assert (response.status_code, response.json()["accepted"]) == (202, 2)
    assert await client.stored() == before + 2


async def test_commits_that_never_arrive_are_an_error_and_nothing(
    proxy: Proxy, client: Client
) -> None:
    proxy.cuts, proxy.commits_to_cut = "before", 1_000
    check_unavailable(await client.post("batch-1"))
    assert await client.stored() == 0
    proxy.commits_to_cut = 0
    response = await client.post("batch-1")
    assert response.status_code == 202
    assert "idempotency-replayed" not in response.headers
    assert await client.stored() == 2


@pytest.mark.parametrize("cuts", ["before", "after"])
async def test_the_rejections_of_a_producer_outlive_a_commit_that_was_not_answered(
    proxy: Proxy, database_url: str, cuts: Literal["before", "after"]
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(proxy.conninfo) as service:
        grpc = GrpcDriver(service.addresses.grpc)
        one = Stream(grpc.channel, tenant.key)
        await one.open("producer-1")
        proxy.cuts, proxy.commits_to_cut = cuts, 1
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
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.postgres.database, "CHECKOUT_SECONDS", 0.3)
    monkeypatch.setattr(core.journal.commit_status, "STATUS_SECONDS", 0.3)


@pytest.mark.parametrize("key", [None, "batch-1"])
async def test_a_commit_whose_fate_stays_unknown_is_not_made_again(
    impatient: None,
    proxy: Proxy,
    client: Client,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    key: str | None,
) -> None:
    async def come_back() -> None:
        # When the service has given up asking what became of the transaction.
        for _ in range(300):
            await asyncio.sleep(0.01)
            if "stays unknown" in caplog.text:
                break
        proxy.away(False)

    monkeypatch.setattr(proxy, "committed", lambda: proxy.away(True))
    proxy.cuts, proxy.commits_to_cut = "after", 1
    back = asyncio.create_task(come_back())
    response = await client.post(key)
    await back
    assert await client.stored() == 2
    if response.status_code != 202:
        check_unavailable(response)
    if key is not None:
        # The pool needs a moment to connect again; a client retries.
        async with asyncio.timeout(10):
            while (await client.post(key)).status_code != 202:
                continue
        assert await client.stored() == 2


# --- connections that die at rest ---------------------------------------------------------------


async def test_terminated_connections_are_replaced_unnoticed(
    client: Client, database_url: str
) -> None:
    assert (await client.post()).status_code == 202
    for _ in range(3):
        with psycopg.connect(database_url) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE 'wepeople-ingest%'"
            )
        responses = await asyncio.gather(*(client.post() for _ in range(5)))
        assert [response.status_code for response in responses] == [202] * 5
    assert await client.stored() == 32


async def test_connections_cut_under_load_lose_nothing(proxy: Proxy, client: Client) -> None:
    async def cut() -> None:
        for _ in range(10):
            await asyncio.sleep(0.05)
            proxy.cut()

    cutting = asyncio.create_task(cut())
    responses = []
    while not cutting.done():
        responses += await asyncio.gather(*(client.post() for _ in range(4)))
    accepted = [response for response in responses if response.status_code == 202]
    for response in responses:
        if response.status_code != 202:
            check_unavailable(response)
    assert accepted
    assert await client.stored() == 2 * len(accepted)


# --- a database that is gone for a while --------------------------------------------------------


async def test_the_service_outlives_its_database(
    proxy: Proxy, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await client.post()).status_code == 202
    for _ in range(2):
        proxy.away(True)
        response = await client.post("batch-1")
        check_unavailable(response)
        request_id = response.headers["x-request-id"]
        logged = [getattr(record, "request_id", None) for record in caplog.records]
        assert logged.count(request_id) == 1
        not_ready = await client.http.client.get("/readyz")
        assert (not_ready.status_code, not_ready.json()["status"]) == (503, "not ready")
        assert (await client.http.client.get("/healthz")).status_code == 200
        proxy.away(False)
        deadline = time.monotonic() + 10
        while (await client.http.client.get("/readyz")).status_code != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    assert (await client.post("batch-1")).status_code == 202
    assert await client.stored() == 4


# --- a database that hangs ----------------------------------------------------------------------


@pytest.mark.parametrize("at_commit", [False, True])
async def test_a_database_that_hangs_is_not_waited_for_without_bounds(
    proxy: Proxy, client: Client, monkeypatch: pytest.MonkeyPatch, at_commit: bool
) -> None:
    get = client.http.client.get
    authorization = {"Authorization": f"Bearer {client.tenant.key}"}

    async def seconds_to_fail(path: str) -> float:
        begin = time.monotonic()
        assert (await get(path, headers=authorization, timeout=30)).status_code in (500, 503)
        return time.monotonic() - begin

    assert (await client.post()).status_code == 202
    if at_commit:
        # The COMMIT goes out, then nothing comes back; the proxy forwards it when it moves again.
        monkeypatch.setattr(proxy, "committed", lambda: proxy.freeze(True))
        proxy.cuts, proxy.commits_to_cut = "after", 1
    else:
        proxy.freeze(True)
    begun = asyncio.create_task(client.post("batch-1"))
    async with asyncio.timeout(10):
        while not proxy.frozen:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(1)
    ready, look_up = await asyncio.gather(
        seconds_to_fail("/readyz"), seconds_to_fail("/api/v1/ingest/ping")
    )
    # With what a busy machine may add; the database hangs for ever.
    assert ready < 5
    assert look_up < 6
    assert (await get("/healthz")).status_code == 200
    check_unavailable(await begun)  # before the client's fifteen seconds, which it checks
    proxy.freeze(False)
    async with asyncio.timeout(15):
        while (await client.post("batch-1")).status_code != 202:
            continue
    assert await client.stored() == 4


# --- news that do not arrive --------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["none", "cut", "frozen"])
async def test_a_revocation_is_in_force_within_a_second_even_unheard(
    proxy: Proxy, client: Client, fault: str
) -> None:
    for _ in range(20):
        assert (await client.post()).status_code == 202
        await asyncio.sleep(0.02)
    if fault == "cut":
        proxy.refusing_changes = True
        proxy.cut(changes_only=True)
    elif fault == "frozen":
        proxy.freeze_changes()
    await client.tenant.revoke()
    revoked = time.monotonic()
    last_accepted = revoked
    while time.monotonic() < revoked + 2:
        sent = time.monotonic()
        response = await client.post()
        if response.status_code == 202:
            last_accepted = sent
        else:
            assert json.loads(response.content)["error"]["code"] == "key_revoked"
        await asyncio.sleep(0.02)
    assert last_accepted - revoked < 1
