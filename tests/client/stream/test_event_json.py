"""Events given as JSON: they equal messages, and nothing that a message can say is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.client.stream.conftest import (
    numbered,
    producer_for,
)
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, event
from wepeople_ingest_client import Actor, Event
from wepeople_ingest_client.pb import ingest_pb2 as pb

pytestmark = pytest.mark.anyio


async def test_a_message_and_its_json_form_are_the_same_event(
    server: Addresses, tenant: Tenant
) -> None:
    message = pb.IngestEvent(
        event_type="deal.won",
        category="code",
        actor=pb.Actor(email="a@b.example"),
        duration_seconds=3,
        metadata_json=b'{"n": 1.10000000000000000001}',
    )
    message.timestamp.FromJsonString("2026-04-19T12:05:00.25Z")
    async with producer_for(tenant, server.grpc) as producer:
        await producer.send(message)
        await producer.send(
            {
                "eventType": "deal.won",
                "category": "code",
                "actor": {"email": "A@B.example"},
                "duration": 3.0,
                "timestamp": "2026-04-19T14:05:00.25+02:00",
                "metadata": b'{"n": 1.10000000000000000001}',
            }
        )
        await producer.send(
            Event(
                event_type="deal.won",
                category="code",
                actor=Actor(email="A@B.example"),
                duration=3,
                timestamp=datetime(2026, 4, 19, 12, 5, 0, 250_000, UTC),
                metadata={"n": Decimal("1.10000000000000000001")},
            )
        )
    one, other, third = await tenant.events()
    assert len({one.pop("id"), other.pop("id"), third.pop("id")}) == 3
    assert one == other == third
    assert one["metadata"] == '{"n":1.10000000000000000001}'


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"duration": "x"}, "duration: must be an integer"),
        ({"duration": 1.5}, "duration: must be a whole number of seconds"),
        ({"duration": 10**30}, "duration: must be at most 86400"),
        ({"timestamp": "yesterday"}, "timestamp: must be an RFC 3339 date-time"),
        ({"actor": {"email": 3}}, "actor.email: must be a string"),
        ({"actor": None}, "actor: must be an object"),
        ({"eventType": "\ud800"}, "must not contain unpaired surrogates"),
        ({"metadata": {"x": float("nan")}}, "metadata: is not JSON"),
        ({"metadata": b"x" * 1_048_576}, "an event has at most"),
    ],
)
async def test_only_events_that_no_message_can_express_are_refused(
    server: Addresses, tenant: Tenant, members: dict[str, Any], message: str
) -> None:
    async with producer_for(tenant, server.grpc) as producer:
        with pytest.raises(ValueError, match=message):
            await producer.send(event(**members))
        await producer.send(numbered(0))
    assert producer.metrics.sent == producer.metrics.accepted == 1
