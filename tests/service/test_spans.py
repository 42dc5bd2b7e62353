"""Spans of transactions: their links, their steps, and which of them are recorded."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from psycopg.errors import UniqueViolation

from core.journal.mode import UnexpectedOutcomeError
from service.spans import OtelTracer, otlp_tracer
from tests.support.collector import CLIENT, INTERNAL, SERVER, CollectedSpan, Collector
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.running_service import RunningService
from tests.support.tenant import event, make_tenant

pytestmark = pytest.mark.anyio

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def requests_of(collector: Collector) -> list[CollectedSpan]:
    return [span for span in collector.spans if span.kind == SERVER]


async def test_a_transaction_and_its_requests_are_linked_with_each_other(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        http, grpc = HttpDriver(service.addresses.http), GrpcDriver(service.addresses.grpc)
        await http.ingest(tenant.key, [event()])  # makes the worker, so it goes stepwise
        replies = await asyncio.gather(
            *(driver.ingest(tenant.key, [event()]) for driver in (http, grpc) for _ in range(9))
        )
        assert {reply.code for reply in replies} == {None}
        await http.close()
        await grpc.close()
    transactions = collector.named("journal transaction")
    requests = requests_of(collector)
    assert len(requests) == 19
    for request in requests:
        (transaction,) = [one for one in transactions if request.place in one.links]
        assert request.links == (transaction.place,)
    first, *others = transactions
    assert len(others) < 18, "some are of several requests"
    assert sum(int(one.attributes["wepeople.requests"]) for one in transactions) == 19
    for transaction in transactions:
        assert (transaction.kind, transaction.parent, transaction.failed) == (INTERNAL, "", False)
    steps = ["claim", "find workers", "provide workers", "copy", "commit"]
    assert collector.children(first) == steps
    assert first.attributes["wepeople.mode"] in ("stepwise", "optimistic")
    expected = (steps, ["claim", "copy and commit"], ["write and commit"])
    assert collector.children(others[-1]) in expected
    for step in collector.named("claim"):
        assert (step.kind, step.attributes["db.system.name"]) == (CLIENT, "postgresql")
    resource = first.resource
    assert (resource["service.name"], resource["service.version"]) == ("wepeople-ingest", "0.1.0")


async def test_what_the_caller_does_not_sample_is_not_recorded(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        http = HttpDriver(service.addresses.http)
        http.client.headers["traceparent"] = f"00-{TRACE}-{SPAN}-00"
        assert (await http.ingest(tenant.key, [event()])).code is None
        await http.close()
    assert collector.spans == []


async def test_the_sampler_is_that_of_the_environment(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ingest-eu")
    tenant = await make_tenant(database_url)
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        http = HttpDriver(service.addresses.http)
        assert (await http.ingest(tenant.key, [event()])).code is None
        http.client.headers["traceparent"] = f"00-{TRACE}-{SPAN}-01"
        assert (await http.ingest(tenant.key, [event()])).code is None
        await http.close()
    (request,) = requests_of(collector)
    assert (request.trace, request.parent) == (TRACE, SPAN)
    assert request.resource["service.name"] == "ingest-eu"
    assert collector.one("journal transaction").links == (request.place,)


async def fail_in_a_step(tracer: OtelTracer, error: Exception) -> None:
    async def work() -> None:
        raise error

    request = tracer.begin_request("request", None, {})
    with (
        pytest.raises(type(error)),
        tracer.transaction([request], {"wepeople.mode": "optimistic"}) as step,
    ):
        await step("claim", work())
    request.end(None)


async def test_an_error_of_the_database_is_told_by_its_code_alone() -> None:
    with Collector() as collector:
        tracer = otlp_tracer(collector.endpoint, "1")
        await fail_in_a_step(tracer, UniqueViolation("Key (email)=(a@example.org) exists"))
        tracer.shut_down()
    for name in ("claim", "journal transaction"):
        span = collector.one(name)
        assert (span.failed, span.attributes["error.type"]) == (True, "23505")
    assert "example" not in repr(collector.spans)


async def test_a_transaction_that_goes_stepwise_has_not_failed() -> None:
    with Collector() as collector:
        tracer = otlp_tracer(collector.endpoint, "1")
        await fail_in_a_step(tracer, UnexpectedOutcomeError())
        tracer.shut_down()
    assert not collector.one("journal transaction").failed


async def test_a_request_that_is_answered_already_is_not_linked() -> None:
    with Collector() as collector:
        tracer = otlp_tracer(collector.endpoint, "1")
        request = tracer.begin_request("request", None, {})
        request.end("cancelled")
        with tracer.transaction([request], {}):
            pass
        tracer.shut_down()
    assert [span.name for span in collector.spans] == ["request"]


async def test_a_parent_that_is_not_well_formed_is_none() -> None:
    from core.tracing import Parent

    with Collector() as collector:
        tracer = otlp_tracer(collector.endpoint, "1")
        tracer.begin_request("request", Parent(f"00-{'0' * 32}-{SPAN}-01", ""), {}).end(None)
        tracer.shut_down()
    assert collector.one("request").parent == ""
