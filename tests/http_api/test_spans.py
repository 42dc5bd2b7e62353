"""Spans of HTTP requests, as a collector gets them."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from core import ids
from core.ingest import Ingestor
from tests.support.collector import SERVER, Collector
from tests.support.http_driver import HttpDriver
from tests.support.raw_http import ONE, PING, connect, head, post
from tests.support.running_service import RunningService
from tests.support.tenant import UNKNOWN_KEY, event, make_tenant, snapshot
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
EVENTS = "POST /api/v1/ingest/events"


async def test_a_request_has_a_span_in_the_callers_trace(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        http = HttpDriver(service.addresses.http)
        answer = await http.client.post(
            "/api/v1/ingest/events",
            json={"events": [event(), event(eventType="no.such")]},
            headers={
                "Authorization": f"Bearer {tenant.key}",
                "traceparent": f"00-{TRACE}-{SPAN}-01",
            },
        )
        assert answer.status_code == 207
        await http.close()
    span = collector.one(EVENTS)
    assert (span.trace, span.parent, span.kind) == (TRACE, SPAN, SERVER)
    assert answer.headers["traceparent"] == f"00-{TRACE}-{span.id}-01"
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/api/v1/ingest/events",
        "http.response.status_code": 207,
        "network.protocol.version": "1.1",
        "url.path": "/api/v1/ingest/events",
        "url.scheme": "http",
        "wepeople.request_id": answer.headers["x-request-id"],
        "wepeople.organization": ids.text(ids.ORGANIZATION, tenant.organization.id),
        "wepeople.app": tenant.app.slug,
        "wepeople.events": 2,
    }
    assert not span.failed


async def test_a_refused_request_has_its_code_and_pages_have_no_span(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        http = HttpDriver(service.addresses.http)
        assert (await http.ping(UNKNOWN_KEY)).code == "invalid_key"
        reply = await http.ingest(tenant.key, [event(eventType="no.such")])
        assert reply.code == "forbidden_event_type"
        assert (await http.snapshot(tenant.key, snapshot())).code is None
        for path in ("/healthz", "/metrics", "/developers", "/api/v1/none"):
            assert "traceparent" not in (await http.client.get(path)).headers
        odd = await http.client.request("PROPFIND", "/api/v1/ingest/ping")
        assert odd.status_code == 405
        await http.close()
    ping = collector.one("GET /api/v1/ingest/ping")
    assert (ping.attributes["error.type"], ping.parent) == ("invalid_key", "")
    assert ping.attributes["http.response.status_code"] == 401
    refused = collector.one(EVENTS)
    assert refused.attributes["error.type"] == "forbidden_event_type"
    assert refused.attributes["wepeople.request_id"] == reply.request_id
    assert not refused.failed, "it is the client's error, not the service's"
    odd_span = collector.one("HTTP /api/v1/ingest/ping")
    assert odd_span.attributes["http.request.method"] == "_OTHER"
    requests = [span for span in collector.spans if span.kind == SERVER]
    assert len(requests) == 4
    assert "no.such" not in repr(collector.spans)
    assert tenant.key not in repr(collector.spans)


async def test_a_client_that_goes_away_is_told_of(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # milliseconds
    tenant = await make_tenant(database_url)
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        async with connect(service.addresses.http) as connection:
            await connection.send(head(tenant.key, Content_Length=100) + b"{")
        await eventually(lambda: bool(collector.named(EVENTS)), "the span has ended")
    span = collector.one(EVENTS)
    assert span.attributes["error.type"] == "cancelled"


async def test_a_client_that_goes_away_before_its_turn_has_no_status(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[object] = []

    async def never(*_: object, **__: object) -> None:
        waiting.append(asyncio.current_task())
        await asyncio.Event().wait()

    monkeypatch.setattr(Ingestor, "admit", never)
    monkeypatch.setattr(Ingestor, "begin_unkeyed", never)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # milliseconds
    preflight = head(None, "OPTIONS", PING, Origin="null", Access_Control_Request_Method="GET")
    requests = [head(None, "GET", PING), post(None, ONE), preflight]
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        for request in requests:
            async with connect(service.addresses.http) as connection:
                await connection.send(request)
                await eventually(lambda: bool(waiting), "the request waits")
                connection.reset()
            waiting.clear()
        await eventually(lambda: len(collector.spans) == len(requests), "the spans have ended")
    for span in collector.spans:
        assert span.attributes["error.type"] == "cancelled"
        assert "http.response.status_code" not in span.attributes
