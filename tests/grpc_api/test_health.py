"""Health, which anybody may ask for: bounded, and no caller holds up the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_api import health
from grpc_api.health import Health
from tests.grpc_api.conftest import Connect
from tests.support.running_service import RunningService
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio
CHECK = "/grpc.health.v1.Health/Check"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Context:
    """A watching call; one that is stuck does not take what is written."""

    def __init__(self, *, stuck: bool) -> None:
        self.told: list[int] = []
        self._stuck = stuck

    async def read(self) -> health_pb2.HealthCheckRequest:
        return health_pb2.HealthCheckRequest()

    async def write(self, response: health_pb2.HealthCheckResponse) -> None:
        if self._stuck:
            await asyncio.Event().wait()
        self.told.append(response.status)


async def _at_once() -> None:
    """A turn that has come."""


async def test_a_watch_that_nobody_reads_does_not_hold_up_the_others() -> None:
    served = Health(_at_once)
    stuck, reading = Context(stuck=True), Context(stuck=False)
    calls: list[Any] = [stuck, reading]
    watches = [asyncio.create_task(served._watch(None, one)) for one in calls]
    await eventually(lambda: reading.told == [NOT_SERVING], "the first status")
    served.set(True)
    await eventually(lambda: reading.told == [NOT_SERVING, SERVING], "the second status")
    served.drain()
    served.set(True)  # does nothing any more
    await watches[1]
    assert reading.told == [NOT_SERVING, SERVING, NOT_SERVING]
    watches[0].cancel()


async def test_checks_without_a_message_do_not_keep_others_out(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "MAX_MESSAGES", 3)
    with RunningService(database_url) as service:
        client = connect(service.addresses)
        rpc: Any = client.channel.stream_unary(CHECK)
        silent = [rpc(timeout=30) for _ in range(6)]  # none of them sends its message
        await eventually(lambda: sum(call.done() for call in silent) >= 3, "the oldest end")
        stub: Any = health_pb2_grpc.HealthStub(client.channel)
        response = await stub.Check(health_pb2.HealthCheckRequest())
        assert response.status == SERVING
        for call in silent:
            call.cancel()
