"""The work on a body between its arrival and the journal, and how much CPU it may take.

CPU is that of the thread which works, so that other threads and processes may work meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from core.errors import IngestError
from core.journal import judging
from core.journal.pending_events import PendingEvents, prepared
from core.journal.pending_snapshot import PendingSnapshot
from core.journal.queue import MAX_UNJUDGED_BYTES
from core.models import EventBatch, SnapshotRequest
from core.rules.snapshot import check_texts
from core.slices import in_turns
from grpc_api import convert
from grpc_api.pb import ingest_pb2 as pb
from http_api.decoding import decode_events, decode_snapshot
from service.gc_settings import THRESHOLDS
from tests.support.strategies import CALLER

RECEIVED_US: Final = 1_776_600_300_123_456

# Of the CPU of all valid events, measured beside each body: a machine changes its speed. The aim is
# 2, which is 50 ms on a machine that takes 25 for them; the rest is room for noise.
MAX_SLICE_RATIO: Final = 3
# The worst that is known takes 5 to 11 times as much: the aim is 10, the rest is room for noise.
MAX_RATIO: Final = 15
# A neighbour's work takes processor caches and turbo: what counts is the best of some runs.
USUAL_RUNS: Final = 3
MAX_RUNS: Final = 5


def judge_events(body: bytes) -> Iterator[None]:
    """Decode and judge a body of events that has an idempotency key."""
    return _turns(_judge_events(body))


def judge_snapshot(body: bytes) -> Iterator[None]:
    """Decode and judge a body as a snapshot that has an idempotency key."""
    return _turns(_judge_snapshot(body))


def judge_message(data: bytes) -> Iterator[None]:
    """Parse, convert and judge an IngestEventsRequest."""
    return _turns(_judge_message(data))


def judge_together(body: bytes) -> Iterator[None]:
    """Decode as many bodies of small requests as a transaction takes, and judge them together."""
    return _turns(_judge_requests(body))


@contextlib.contextmanager
def collector_of_the_service() -> Iterator[None]:
    """Have the garbage collector look at what is new alone, and as often as in the service."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    yield
    gc.set_threshold(*thresholds)


def slices_of(work: Iterator[None]) -> Iterator[float]:
    """Do the work; the CPU seconds of each of its slices, collections of garbage included."""
    gc.collect()
    while True:
        begin = time.thread_time()
        end = next(work, work)
        yield time.thread_time() - begin
        if end is work:
            return


def usual_cost(work: Callable[[], Iterator[None]]) -> float:
    """The CPU seconds of work that everything else is measured by."""
    return min(sum(slices_of(work())) for _ in range(USUAL_RUNS))


def check_cost(
    work: Callable[[], Iterator[None]], usual: float, whole_ratio: float = MAX_RATIO
) -> None:
    """Fail if work holds up others for long, or takes too much CPU in all, each time it is done.

    It is done again only while it has not been within both bounds.
    """
    longest = whole = math.inf
    for _ in range(MAX_RUNS):
        slices = list(slices_of(work()))
        longest, whole = min(longest, max(slices)), min(whole, sum(slices))
        if longest < MAX_SLICE_RATIO * usual and whole < whole_ratio * usual:
            return
    ratios = f"{longest / usual:.1f} times the usual at once, {whole / usual:.1f} times in all"
    raise AssertionError(ratios)


def _turns(work: Coroutine[Any, Any, None]) -> Iterator[None]:
    # asyncio.sleep(0) awaits nothing, so that no event loop is needed.
    with contextlib.suppress(StopIteration, IngestError):
        while True:
            work.send(None)
            yield


async def _judge_events(body: bytes) -> None:
    events = await decode_events(body)
    await _judge(EventBatch("req_", events, "the key", size_bytes=len(body)))


async def _judge_requests(body: bytes) -> None:
    requests = []
    for number in range(MAX_UNJUDGED_BYTES // len(body)):
        events = await decode_events(body)
        batch = EventBatch("req_", events, f"key {number}", size_bytes=len(body))
        requests.append(PendingEvents(CALLER, batch, RECEIVED_US))
        await asyncio.sleep(0)
    await in_turns(judging._judge(requests))


async def _judge_message(data: bytes) -> None:
    request = pb.IngestEventsRequest.FromString(data)
    await asyncio.sleep(0)  # to be admitted
    events, size_bytes = await convert.events(request, request.ByteSize())
    await _judge(EventBatch("req_", events, "the key", size_bytes=size_bytes))


async def _judge(batch: EventBatch) -> None:
    if len(batch.events) <= 500:
        PendingEvents.check(CALLER, await prepared(batch), RECEIVED_US)


async def _judge_snapshot(body: bytes) -> None:
    request = SnapshotRequest("req_", await decode_snapshot(body), "the key", len(body))
    stored = await in_turns(check_texts(request.snapshot))
    PendingSnapshot.check(CALLER, request, stored, RECEIVED_US)
