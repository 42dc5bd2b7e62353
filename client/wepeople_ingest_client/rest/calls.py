"""The calls of the API as steps, without I/O. The clients differ in how they do the steps only."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Final

from wepeople_ingest_client.codes import Retry
from wepeople_ingest_client.encoding import encode
from wepeople_ingest_client.models import (
    AnyEvent,
    AnySnapshot,
    BatchResult,
    PingResult,
    SnapshotResult,
)
from wepeople_ingest_client.rest.answers import api_error, decode, decode_batch, is_success, join
from wepeople_ingest_client.rest.errors import ApiError, IngestError, NoAnswerError
from wepeople_ingest_client.rest.retries import Retries
from wepeople_ingest_client.rest.splitting import part_keys, split
from wepeople_ingest_client.rest.steps import Answer, Clock, Pause, Request, Steps

_PING: Final = "/api/v1/ingest/ping"
_EVENTS: Final = "/api/v1/ingest/events"
_SNAPSHOTS: Final = "/api/v1/ingest/snapshots"


def ping(retries: Retries) -> Steps[PingResult]:
    """The steps of a ping."""
    return decode((yield from answered(Request("GET", _PING), retries)), PingResult)


def ingest_events(
    events: Iterable[AnyEvent], idempotency_key: str | None, retries: Retries
) -> Steps[BatchResult]:
    """The steps of sending a list of events, in as many requests as it takes."""
    parts = split(events)
    key = _new_key() if idempotency_key is None else idempotency_key
    results: list[BatchResult] = []
    refusal: ApiError | None = None
    try:
        for part, part_key in zip(parts, part_keys(key, len(parts)), strict=True):
            answer = yield from answered(_post(_EVENTS, part.body, part_key), retries)
            result, error = decode_batch(answer, part.places)
            results.append(result)
            refusal = refusal or error
        joined = join(results)
        if refusal is not None and not joined.accepted:
            raise refusal
    except IngestError as error:
        error.idempotency_key, error.result = key, join(results)
        raise
    return joined


def ingest_snapshot(
    snapshot: AnySnapshot, idempotency_key: str | None, retries: Retries
) -> Steps[SnapshotResult]:
    """The steps of sending a snapshot."""
    key = _new_key() if idempotency_key is None else idempotency_key
    try:
        request = _post(_SNAPSHOTS, encode(snapshot), key)
        return decode((yield from answered(request, retries)), SnapshotResult)
    except IngestError as error:
        error.idempotency_key = key
        raise


def answered(
    request: Request,
    retries: Retries,
    *,
    monotonic: Clock = time.monotonic,
    wall: Clock = time.time,
) -> Steps[Answer]:
    """The steps to the final answer to a request, with the repeats that make sense.

    Returns the last answer, an error too. Raises :class:`NoAnswerError` if the last attempt got
    none.
    """
    began, began_wall = monotonic(), wall()

    def elapsed() -> float:
        # The monotonic clock may stand still while the machine sleeps, the other one may be set
        # back; the idempotency key ages all the same.
        return max(monotonic() - began, wall() - began_wall)

    attempts = 0
    while True:
        reply = yield request
        attempts += 1
        assert reply is not None
        if isinstance(reply, Answer) and is_success(reply):
            return reply
        error = reply if isinstance(reply, NoAnswerError) else api_error(reply)
        if error.retry is Retry.LATER and attempts < retries.max_attempts:
            retry_after = error.retry_after_seconds if isinstance(error, ApiError) else None
            pause = Pause(retries.pause_seconds(attempts, retry_after))
            if elapsed() + pause.seconds <= retries.max_seconds:
                yield pause
                if elapsed() <= retries.max_seconds:
                    continue
        if isinstance(reply, NoAnswerError):
            raise reply
        return reply


def _post(path: str, body: bytes, idempotency_key: str) -> Request:
    headers = {b"Content-Type": b"application/json", b"Idempotency-Key": idempotency_key.encode()}
    return Request("POST", path, headers, body)


def _new_key() -> str:
    return str(uuid.uuid4())
