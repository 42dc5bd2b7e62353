"""Answers: what of a batch was accepted, and what was not."""

from __future__ import annotations

import pytest

from core import timestamps
from grpc_api.pb import ingest_pb2 as pb
from tests.support.grpc_driver import GrpcDriver, event_message
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio


async def test_five_hundred_rejections_beside_an_accepted_event_are_all_listed(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    reply = await grpc.ingest(tenant.key, [event(), *[event(category="?")] * 499])
    assert reply.code is None
    assert [one.index for one in reply.rejected] == list(range(1, 500))


async def test_instants_are_neither_formatted_nor_parsed(
    grpc: GrpcDriver, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts of times were a third of the cost of a call."""
    sent = [event_message(event(timestamp=f"2026-04-19T12:05:{n:02}.25Z")) for n in range(20)]
    sent.append(event_message(event()))
    made: list[object] = []
    monkeypatch.setattr(timestamps, "_format_minute", made.append)
    monkeypatch.setattr(timestamps, "_parse", made.append)
    monkeypatch.setattr(timestamps, "_parse_short", made.append)
    response = await grpc.stub.IngestEvents(
        pb.IngestEventsRequest(events=sent, idempotency_key="a key"),
        metadata=(("authorization", f"Bearer {tenant.key}"),),
    )
    assert [one.timestamp for one in response.accepted[:20]] == [one.timestamp for one in sent[:20]]
    assert response.accepted[20].timestamp.seconds > 0
    assert made == []
