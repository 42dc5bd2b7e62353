"""Calls that are refused, of whatever method: nothing of them stays in memory."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from grpc_api.reflection import MAX_CONVERSATIONS
from tests.support.grpc_driver import GrpcDriver
from tests.support.stream_client import Stream
from tests.support.tenant import UNKNOWN_KEY
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

REFUSED_CALLS = 40


async def _refused_streams(channel: aio.Channel) -> None:
    for _ in range(REFUSED_CALLS):
        assert (await Stream(channel, UNKNOWN_KEY).end()).reason == "INVALID_KEY"


async def _unknown_methods(channel: aio.Channel) -> None:
    method: Any = channel.unary_unary("/other.Service/Method")
    for _ in range(REFUSED_CALLS):
        with pytest.raises(aio.AioRpcError) as caught:
            await method(b"")
        assert caught.value.code() is StatusCode.UNIMPLEMENTED


async def _unknown_health(channel: aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for _ in range(REFUSED_CALLS):
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is StatusCode.NOT_FOUND


async def _replaced_conversations(channel: aio.Channel) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
    calls = [stub.ServerReflectionInfo() for _ in range(MAX_CONVERSATIONS + REFUSED_CALLS)]
    for call in calls[:REFUSED_CALLS]:
        assert await call.code() is StatusCode.UNAVAILABLE
    for call in calls[REFUSED_CALLS:]:  # ends them in the server, too, before the next are counted
        await call.done_writing()
        assert await call.code() is StatusCode.OK


def _calls_in_memory() -> int:
    return sum(type(one).__name__ == "RPCState" for one in gc.get_objects())


@pytest.mark.parametrize(
    "refused", [_refused_streams, _unknown_methods, _unknown_health, _replaced_conversations]
)
async def test_nothing_is_left_of_calls_that_are_refused(
    refused: Callable[[aio.Channel], Awaitable[None]], grpc: GrpcDriver, uncollected: None
) -> None:
    await grpc.channel.channel_ready()  # calls made before come in any order
    await refused(grpc.channel)  # the server accepts by now
    gc.collect()
    before = _calls_in_memory()
    await refused(grpc.channel)
    # Those of other tests may end meanwhile; so many were accepted.
    few = before + REFUSED_CALLS // 4
    await eventually(lambda: _calls_in_memory() < few, "they are gone")
