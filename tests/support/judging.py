"""The work on a body between its arrival and the journal, one slice after the other."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from core.errors import IngestError
from core.journal.pending_events import PendingEvents, prepared
from core.journal.pending_snapshot import PendingSnapshot
from core.models import EventBatch, SnapshotRequest
from core.rules.snapshot import check_texts
from core.slices import in_turns
from grpc_api import convert
from grpc_api.pb import ingest_pb2 as pb
from http_api.decoding import decode_events, decode_snapshot
from service.gc_settings import THRESHOLDS
from tests.support.strategies import CALLER

RECEIVED_US = 1_776_600_300_123_456


def judge_events(body: bytes) -> Iterator[None]:
    """Decode and judge a body of events that has an idempotency key."""
    return _turns(_judge_events(body))


def judge_snapshot(body: bytes) -> Iterator[None]:
    """Decode and judge a body as a snapshot that has an idempotency key."""
    return _turns(_judge_snapshot(body))


def judge_message(data: bytes) -> Iterator[None]:
    """Parse, convert and judge an IngestEventsRequest."""
    return _turns(_judge_message(data))


def slices_of(work: Iterator[None]) -> Iterator[float]:
    """Do the work; the CPU seconds of each of its slices, collections of garbage included."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        while True:
            begin = time.process_time()
            end = next(work, work)
            yield time.process_time() - begin
            if end is work:
                return
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _turns(work: Coroutine[Any, Any, None]) -> Iterator[None]:
    # asyncio.sleep(0) awaits nothing, so that no event loop is needed.
    with contextlib.suppress(StopIteration, IngestError):
        while True:
            work.send(None)
            yield


async def _judge_events(body: bytes) -> None:
    events = await decode_events(body)
    await _judge(EventBatch("req_", events, "the key", size_bytes=len(body)))


async def _judge_message(data: bytes) -> None:
    request = pb.IngestEventsRequest.FromString(data)
    await asyncio.sleep(0)  # to be admitted
    events, size_bytes = await convert.events(request)
    await _judge(EventBatch("req_", events, "the key", size_bytes=size_bytes))


async def _judge(batch: EventBatch) -> None:
    if len(batch.events) <= 500:
        PendingEvents.check(CALLER, await prepared(batch), RECEIVED_US)


async def _judge_snapshot(body: bytes) -> None:
    request = SnapshotRequest("req_", await decode_snapshot(body), "the key", len(body))
    stored = await in_turns(check_texts(request.snapshot))
    PendingSnapshot.check(CALLER, request, stored, RECEIVED_US)
