"""Requests that fail on their way, and are sent again: over real sockets, to the real service."""

from __future__ import annotations

import itertools
import json
import time
from urllib.parse import urlsplit

import httpx
import pytest

from tests.client.rest.conftest import Connect
from tests.support.http_proxy import Fault, HttpProxy, answer
from tests.support.raw_http import Answer
from tests.support.running_service import Addresses
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant, event, snapshot
from wepeople_ingest_client import (
    ApiError,
    AuthenticationError,
    InternalError,
    NoAnswerError,
    Retries,
    Retry,
)
from wepeople_ingest_client.limits import MAX_BATCH_EVENTS
from wepeople_ingest_client.rest.http_io import MAX_ANSWER_BYTES

pytestmark = pytest.mark.anyio

SOON = Retries(max_attempts=4, first_backoff_seconds=0.01, max_backoff_seconds=0.02)
BUSY = answer(503, b"<html>busy</html>")


def refusal(status: int, code: str, **headers: str) -> Answer:
    error = {"code": code, "message": "m", "requestId": "req_1", "docsUrl": "http://x/#c"}
    return answer(status, json.dumps({"error": error}).encode(), **headers)


FAILED = refusal(500, "internal_error")


@pytest.mark.parametrize(
    "script",
    [
        [BUSY],
        [FAILED, BUSY, answer(502)],
        [Fault.CUT, Fault.CUT],
        [Fault.LOSE_ANSWER],
        [Fault.LOSE_ANSWER, Fault.LOSE_ANSWER, FAILED],
    ],
)
async def test_stored_once(
    connect: Connect, server: Addresses, tenant: Tenant, script: list[Answer | Fault]
) -> None:
    async with HttpProxy(server.http, script) as proxy:
        client = connect(proxy.url, tenant.key, retries=SOON)
        result = await client.ingest_events([event()])
        assert len(proxy.received) == len(script) + 1
        assert len({one.idempotency_key for one in proxy.received}) == 1
        assert len({one.body for one in proxy.received}) == 1
    assert len(result.accepted) == 1
    assert (len(await tenant.events()), await tenant.used()) == (1, 1)


async def test_each_call_has_a_key_of_its_own(
    connect: Connect, server: Addresses, tenant: Tenant
) -> None:
    async with HttpProxy(server.http, [Fault.LOSE_ANSWER]) as proxy:
        client = connect(proxy.url, tenant.key, retries=SOON)
        for _ in range(2):
            await client.ingest_snapshot(snapshot())
        keys = [one.idempotency_key for one in proxy.received]
    assert keys[0] == keys[1] != keys[2]
    assert len(await tenant.history()) == 2


async def test_connection_cut_within_a_body(
    connect: Connect, server: Addresses, tenant: Tenant
) -> None:
    cuts = itertools.chain([100_000, 300_000], itertools.repeat(None))
    async with TcpProxy(urlsplit(server.http).netloc, lambda: next(cuts)) as proxy:
        client = connect(f"http://{proxy.address}", tenant.key, retries=SOON)
        result = await client.ingest_events([event(metadata={"text": "x" * 8_000})] * 100)
        assert proxy.connections == 3
    assert len(result.accepted) == 100
    assert len(await tenant.events()) == 100


async def test_silence_is_a_time_out(connect: Connect, server: Addresses, tenant: Tenant) -> None:
    async with HttpProxy(server.http, [Fault.SILENCE]) as proxy:
        client = connect(proxy.url, tenant.key, retries=SOON, timeout=0.5)
        assert (await client.ping()).app.slug == "crm-hub"
        assert len(proxy.received) == 2


async def test_answer_without_end_is_a_time_out(
    connect: Connect, server: Addresses, tenant: Tenant
) -> None:
    async with HttpProxy(server.http, [Fault.TRICKLE]) as proxy:
        client = connect(proxy.url, tenant.key, retries=SOON, timeout=0.5)
        assert (await client.ping()).app.slug == "crm-hub"
        assert len(proxy.received) == 2


async def test_retry_after_is_waited_for(
    connect: Connect, server: Addresses, tenant: Tenant
) -> None:
    script = [refusal(429, "rate_limited", retry_after="1")]
    async with HttpProxy(server.http, script) as proxy:
        client = connect(proxy.url, tenant.key, retries=SOON)
        began = time.monotonic()
        await client.ingest_events([event()])
        assert time.monotonic() - began >= 1
    assert len(await tenant.events()) == 1


async def test_retry_after_beyond_the_bound_is_not(connect: Connect, server: Addresses) -> None:
    script = [refusal(500, "internal_error", retry_after="3600")]
    async with HttpProxy(server.http, script) as proxy:
        with pytest.raises(InternalError) as caught:
            await connect(proxy.url, "k", retries=SOON).ping()
        assert len(proxy.received) == 1
    assert caught.value.retry_after_seconds == 3600


@pytest.mark.parametrize("fault", [BUSY, Fault.CUT])
async def test_gives_up(connect: Connect, server: Addresses, fault: Answer | Fault) -> None:
    async with HttpProxy(server.http, itertools.repeat(fault)) as proxy:
        with pytest.raises((InternalError, NoAnswerError)) as caught:
            await connect(proxy.url, "k", retries=SOON).ingest_events([event()])
        assert len(proxy.received) == SOON.max_attempts
    assert caught.value.idempotency_key == proxy.received[0].idempotency_key
    if isinstance(caught.value, NoAnswerError):
        assert isinstance(caught.value.__cause__, httpx.TransportError)
    else:
        assert "busy" in str(caught.value)


async def test_nobody_there(connect: Connect, server: Addresses) -> None:
    async with TcpProxy(urlsplit(server.http).netloc) as proxy:
        address = proxy.address
    with pytest.raises(NoAnswerError, match="ConnectError"):
        await connect(f"http://{address}", "k", retries=SOON).ping()


@pytest.mark.parametrize("status", [200, 302, 404, 501])
async def test_somebody_else_there(connect: Connect, server: Addresses, status: int) -> None:
    script = itertools.repeat(answer(status, b"<html>", location="http://127.0.0.1:9/"))
    async with HttpProxy(server.http, script) as proxy:
        with pytest.raises(ApiError, match="not an answer of the ingest API") as caught:
            await connect(proxy.url, "k", retries=SOON).ping()
        assert len(proxy.received) == (SOON.max_attempts if status == 501 else 1)
    assert (caught.value.status, caught.value.code) == (status, "")


async def test_endless_answer(connect: Connect, server: Addresses) -> None:
    script = itertools.repeat(answer(200, b"x" * (MAX_ANSWER_BYTES + 1)))
    async with HttpProxy(server.http, script) as proxy:
        with pytest.raises(NoAnswerError, match="the answer is over"):
            await connect(proxy.url, "k", retries=Retries(max_attempts=1)).ping()


@pytest.mark.parametrize(
    ("fault", "kind", "retry"),
    [
        (refusal(401, "key_revoked"), AuthenticationError, Retry.AFTER_CHANGE),
        (FAILED, InternalError, Retry.LATER),
        (Fault.LOSE_ANSWER, NoAnswerError, Retry.LATER),
    ],
)
async def test_failure_in_the_middle_tells_what_is_stored(
    connect: Connect,
    server: Addresses,
    tenant: Tenant,
    fault: Answer | Fault,
    kind: type[ApiError] | type[NoAnswerError],
    retry: Retry,
) -> None:
    events = [event(metadata={"n": n}) for n in range(3 * MAX_BATCH_EVENTS)]
    events[1]["eventType"] = "not.whitelisted"
    async with HttpProxy(server.http, [None, fault]) as proxy:
        once = connect(proxy.url, tenant.key, retries=Retries(max_attempts=1))
        with pytest.raises(kind) as caught:
            await once.ingest_events(events)
        error = caught.value
        assert error.retry is retry
        assert error.result is not None
        assert error.result.judged == MAX_BATCH_EVENTS
        assert [one.index for one in error.result.rejected] == [1]
        # The same call under the same key completes it: nothing is stored twice.
        await once.ingest_events(events, idempotency_key=error.idempotency_key)
    stored = [json.loads(one["metadata"])["n"] for one in await tenant.events()]
    assert sorted(stored) == [n for n in range(len(events)) if n != 1]
