"""Spans of gRPC calls and of the batches of streams, as a collector gets them."""

from __future__ import annotations

import grpc
import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from core import ids
from grpc_api.pb import ingest_pb2 as pb
from tests.support.collector import CONSUMER, SERVER, Collector
from tests.support.grpc_driver import GrpcDriver, event_message
from tests.support.running_service import RunningService
from tests.support.stream_client import Stream
from tests.support.tenant import event, make_tenant

pytestmark = pytest.mark.anyio

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVICE = "wepeople.ingest.v1.IngestService"


async def test_a_call_has_a_span_in_the_callers_trace(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        driver = GrpcDriver(service.addresses.grpc)
        call = driver.stub.IngestEvents(
            pb.IngestEventsRequest(events=[event_message(event())]),
            metadata=(
                ("authorization", f"Bearer {tenant.key}"),
                ("traceparent", f"00-{TRACE}-{SPAN}-01"),
            ),
        )
        answer = await call
        metadata = dict(await call.initial_metadata())
        await driver.close()
    span = collector.one(f"{SERVICE}/IngestEvents")
    assert (span.trace, span.parent, span.kind) == (TRACE, SPAN, SERVER)
    assert metadata["traceparent"] == f"00-{TRACE}-{span.id}-01"
    assert span.attributes == {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": "IngestEvents",
        "rpc.grpc.status_code": grpc.StatusCode.OK.value[0],
        "wepeople.request_id": answer.request_id,
        "wepeople.organization": ids.text(ids.ORGANIZATION, tenant.organization.id),
        "wepeople.app": tenant.app.slug,
        "wepeople.events": 1,
    }


async def test_a_refused_call_has_its_code_and_status(database_url: str) -> None:
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        driver = GrpcDriver(service.addresses.grpc)
        assert (await driver.ping(None)).code == "missing_authorization"
        await driver.close()
    span = collector.one(f"{SERVICE}/Ping")
    assert span.attributes["error.type"] == "missing_authorization"
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.UNAUTHENTICATED.value[0]
    assert not span.failed


async def test_each_batch_of_a_stream_has_a_trace_linked_to_the_stream(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        driver = GrpcDriver(service.addresses.grpc)
        stream = Stream(driver.channel, tenant.key)
        await stream.open("producer")
        for sequence in (1, 2):
            await stream.send(sequence=sequence)
            await stream.ack()
        await stream.send(sequence=9)
        assert (await stream.end()).reason == "SEQUENCE_GAP"
        await driver.close()
    of_stream = collector.one(f"{SERVICE}/StreamEvents")
    assert of_stream.attributes["error.type"] == "sequence_gap"
    batches = collector.named("stream batch")
    assert [one.attributes.get("error.type") for one in batches] == [None, None, "sequence_gap"]
    for batch in batches:
        assert (batch.kind, batch.parent, batch.links[0]) == (CONSUMER, "", of_stream.place)
        assert batch.attributes["wepeople.events"] == 1
    assert len({span.trace for span in (*batches, of_stream)}) == 4
    for batch in batches[:2]:
        (transaction,) = [
            one for one in collector.named("journal transaction") if batch.place in one.links
        ]
        assert transaction.place == batch.links[1]


async def test_a_caller_that_samples_nothing_has_no_batches_either(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    metadata = (
        ("authorization", f"Bearer {tenant.key}"),
        ("traceparent", f"00-{TRACE}-{SPAN}-00"),
    )
    with (
        Collector() as collector,
        RunningService(database_url, otlp_endpoint=collector.endpoint) as service,
    ):
        driver = GrpcDriver(service.addresses.grpc)
        stream = Stream(driver.channel, tenant.key)
        stream.call.cancel()
        stream.call = driver.stub.StreamEvents(metadata=metadata)
        await stream.send()
        await stream.ack()
        await stream.close()
        await driver.close()
    of_caller = [span for span in collector.spans if span.trace == TRACE]
    assert of_caller == []
    assert collector.named("stream batch") == collector.named("journal transaction") == []
