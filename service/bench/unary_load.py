"""gRPC load: unary calls of prepared batches, as fast as answered or at a fixed rate."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Final

from grpc_api.pb import ingest_pb2 as pb
from service.bench.http_load import ANSWER_SECONDS, LoadError
from service.bench.load import UnaryLoad
from service.bench.pace import Pace, paces
from service.bench.recorder import Recorder, now
from service.bench.sample import unary_requests
from service.bench.stream_load import open_channel

METHOD: Final = "/wepeople.ingest.v1.IngestService/IngestEvents"
MAX_CALLS_A_CONNECTION: Final = 64  # servers allow some hundred


async def run_unary(load: UnaryLoad, recorder: Recorder) -> None:
    """Make the load until the recorder's end.

    Raises groups of LoadError, AioRpcError and TimeoutError if the server does not take it.
    """
    requests = unary_requests(load.batch, idempotency_keys=load.idempotency_keys)
    async with contextlib.AsyncExitStack() as stack:
        stubs: list[Any] = []
        for _ in range(-(-load.calls // MAX_CALLS_A_CONNECTION)):
            channel = await stack.enter_async_context(open_channel(load.server, tls=load.tls))
            stubs.append(channel.unary_unary(METHOD, None, pb.IngestEventsResponse.FromString))
        async with (
            asyncio.timeout(recorder.ends - now() + ANSWER_SECONDS),
            asyncio.TaskGroup() as group,
        ):
            for number, pace in enumerate(paces(recorder, load.rate, load.calls)):
                call = stubs[number % len(stubs)]
                group.create_task(_call_on(call, load, requests, recorder, pace))


async def _call_on(
    call: Any, load: UnaryLoad, requests: Iterator[bytes], recorder: Recorder, pace: Pace
) -> None:
    """One call after the other."""
    metadata = (("authorization", f"Bearer {load.key}"),)
    while (intended := await pace.due()) < recorder.ends:
        if pace.interval is not None and now() >= recorder.ends:
            recorder.unsent(intended)
            continue
        response = await call(next(requests), metadata=metadata)
        if len(response.accepted) != load.batch:
            rejected = response.rejected
            raise LoadError(rejected[0].message if rejected else "a batch was not accepted")
        recorder.answered(intended, load.batch)
