"""Statuses that pass, and statuses that end a producer."""

from __future__ import annotations

import grpc
import pytest

from tests.client.stream.scripted_server import StartScripted, status
from tests.support.tenant import event
from wepeople_ingest_client import ProducerError, StreamProducer

pytestmark = pytest.mark.anyio
PASSING = (
    "UNAVAILABLE",
    "INTERNAL",
    "UNKNOWN",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "OUT_OF_RANGE",
    "OK",
)


@pytest.mark.parametrize("name", PASSING)
async def test_statuses_that_pass_are_met_by_opening_again(
    scripted: StartScripted, name: str
) -> None:
    server, target = await scripted(status(name))
    async with StreamProducer(target, "key", "me") as producer:
        await producer.send(event())
        await producer.flush()
    assert len(server.opened) == 2
    assert server.batches == [1]


@pytest.mark.parametrize("name", ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"])
async def test_statuses_that_do_not_pass_are_raised(scripted: StartScripted, name: str) -> None:
    server, target = await scripted(status(name))
    producer = StreamProducer(target, "key", "me")
    await producer.start()
    await producer.send(event())
    with pytest.raises(ProducerError, match="as told") as caught:
        await producer.close()
    assert caught.value.code is grpc.StatusCode[name]
    assert len(server.opened) == 1
