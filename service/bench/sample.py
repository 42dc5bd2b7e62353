"""The events of the load: those of a typical integration, in each form in which they are sent.

All forms hold the same: every member that an event can have, three members of metadata, and two
hundred workers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Final

from core.timestamps import format_us
from grpc_api.pb import ingest_pb2 as pb

EVENT_TYPE: Final = "ticket.resolved"
CATEGORY: Final = "project_management"
WORKERS: Final = 200
DURATION_SECONDS: Final = 240
FIRST_US: Final = 1_776_600_300_123_000
STEP_US: Final = 137_000


def external_id(number: int) -> str:
    """The worker whom the event of that number is about."""
    return f"crm-user-{number % WORKERS}"


def occurred_us(number: int) -> int:
    """The time of the event, in microseconds since the epoch; no two events have the same."""
    return FIRST_US + number * STEP_US


def metadata(number: int) -> str:
    """The metadata of the event, as JSON."""
    return json.dumps({"ticket_id": f"SUP-{number}", "priority": "high", "score": 4.5})


def json_batch(events: int) -> bytes:
    """The body of an HTTP request."""
    return json.dumps({"events": [_event(number) for number in range(events)]}).encode()


def _event(number: int) -> dict[str, Any]:
    return {
        "eventType": EVENT_TYPE,
        "category": CATEGORY,
        "actor": {"externalId": external_id(number)},
        "timestamp": format_us(occurred_us(number)),
        "duration": DURATION_SECONDS,
        "metadata": json.loads(metadata(number)),
    }


class StreamBatches:
    """The messages of a stream, encoded once: they differ in their sequence alone."""

    def __init__(self, events: int) -> None:
        self._events = pb.StreamBatch(events=_messages(events)).SerializeToString()

    def message(self, sequence: int) -> bytes:
        """A StreamEventsRequest whose batch has this sequence.

        An encoded message is its fields one after the other, so the bytes of a batch of the
        sequence alone, followed by those of the events, are the whole batch.
        """
        numbered = pb.StreamBatch(sequence=sequence).SerializeToString()
        length = len(numbered) + len(self._events)
        return b"".join((_BATCH_TAG, _varint(length), numbered, self._events))


def unary_requests(events: int, *, idempotency_keys: bool) -> Iterator[bytes]:
    """IngestEventsRequests without end, encoded once: they differ in the idempotency key alone."""
    batch = pb.IngestEventsRequest(events=_messages(events)).SerializeToString()
    prefix, number = os.urandom(8).hex(), 0
    while True:
        number += 1
        # An encoded message is its fields one after the other, as above.
        key = f"bench-{prefix}-{number}" if idempotency_keys else None
        yield batch + pb.IngestEventsRequest(idempotency_key=key).SerializeToString()


def _messages(events: int) -> list[pb.IngestEvent]:
    messages = []
    for number in range(events):
        event = pb.IngestEvent(
            event_type=EVENT_TYPE,
            category=CATEGORY,
            actor=pb.Actor(external_id=external_id(number)),
            duration_seconds=DURATION_SECONDS,
            metadata_json=metadata(number).encode(),
        )
        event.timestamp.FromMicroseconds(occurred_us(number))
        messages.append(event)
    return messages


_BATCH_TAG: Final = bytes([pb.StreamEventsRequest.BATCH_FIELD_NUMBER << 3 | 2])  # length-delimited


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
