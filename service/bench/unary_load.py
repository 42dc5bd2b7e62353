"""gRPC load: unary calls of prepared messages, as fast as answered or at a fixed rate."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from grpc_api.pb import ingest_pb2 as pb
from service.bench.http_load import ANSWER_SECONDS, LoadError
from service.bench.load import UnaryLoad
from service.bench.pace import Pace, paces
from service.bench.recorder import Recorder, now
from service.bench.sample import unary_requests
from service.bench.stream_load import open_channel

METHOD: Final = "wepeople.ingest.v1.IngestService/IngestEvents"
MAX_CALLS_A_CONNECTION: Final = 64  # servers allow some hundred


@dataclass(frozen=True)
class Calls:
    """Unary calls of a method, ``at_once`` at a time, each of ``batch`` events.

    ``decode`` makes an answer of bytes, and ``problem`` says why an answer is no success; None if
    it is one.
    """

    server: str
    tls: bool
    method: str
    metadata: Mapping[str, str]
    requests: Iterator[bytes]
    decode: Callable[[bytes], Any]
    problem: Callable[[Any], str | None]
    batch: int
    at_once: int
    rate: float | None
    skip_missed: bool


async def run_unary(load: UnaryLoad, recorder: Recorder) -> None:
    """Make the load until the recorder's end; raises as :func:`make_calls`."""

    def problem(response: pb.IngestEventsResponse) -> str | None:
        if len(response.accepted) == load.batch:
            return None
        rejected = response.rejected
        return rejected[0].message if rejected else "a batch was not accepted"

    calls = Calls(
        load.server,
        load.tls,
        METHOD,
        {"authorization": f"Bearer {load.key}"},
        unary_requests(load.batch, idempotency_keys=load.idempotency_keys),
        pb.IngestEventsResponse.FromString,
        problem,
        load.batch,
        load.calls,
        load.rate,
        load.skip_missed,
    )
    await make_calls(calls, recorder)


async def make_calls(calls: Calls, recorder: Recorder) -> None:
    """Make calls until the recorder's end.

    Raises groups of LoadError, AioRpcError and TimeoutError if the server does not take them.
    """
    async with contextlib.AsyncExitStack() as stack:
        stubs: list[Any] = []
        for _ in range(-(-calls.at_once // MAX_CALLS_A_CONNECTION)):
            channel = await stack.enter_async_context(open_channel(calls.server, tls=calls.tls))
            stubs.append(channel.unary_unary(f"/{calls.method}", None, calls.decode))
        async with (
            asyncio.timeout(recorder.ends - now() + ANSWER_SECONDS),
            asyncio.TaskGroup() as group,
        ):
            every = paces(recorder, calls.rate, calls.at_once, skip_missed=calls.skip_missed)
            for number, pace in enumerate(every):
                call = stubs[number % len(stubs)]
                group.create_task(_call_on(call, calls, recorder, pace))


async def _call_on(call: Any, calls: Calls, recorder: Recorder, pace: Pace) -> None:
    """One call after the other."""
    metadata = tuple(calls.metadata.items())
    while (intended := await pace.due()) < recorder.ends:
        if pace.interval is not None and now() >= recorder.ends:
            recorder.unsent(intended)
            continue
        problem = calls.problem(await call(next(calls.requests), metadata=metadata))
        if problem is not None:
            raise LoadError(problem)
        recorder.answered(intended, calls.batch)
