"""The answers of the API, read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import msgspec

from wepeople_ingest_client.models import AcceptedEvent, BatchResult, RejectedEvent
from wepeople_ingest_client.rest.errors import CLASS_BY_CODE, ApiError, InternalError
from wepeople_ingest_client.rest.steps import Answer

T = TypeVar("T")

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
MAX_SHOWN_BYTES: Final = 200  # of an answer that is not the API's, in the message


class _Error(msgspec.Struct, rename="camel"):
    code: str
    message: str = ""
    request_id: str = ""
    docs_url: str = ""


class _Accepted(msgspec.Struct, rename="camel"):
    event_type: str
    timestamp: datetime


class _Results(msgspec.Struct):
    accepted: list[_Accepted]
    rejected: list[RejectedEvent]


class _Batch(msgspec.Struct, rename="camel"):
    request_id: str
    results: _Results


class _Failure(msgspec.Struct):
    error: _Error
    results: _Results | None = None


def is_success(answer: Answer) -> bool:
    """Whether the answer is not an error."""
    return 200 <= answer.status < 300


def decode(answer: Answer, kind: type[T]) -> T:
    """Return the body of a success. Raises the error of any other answer."""
    if not is_success(answer):
        raise api_error(answer)
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except _UNREADABLE:
        raise _foreign(answer) from None


def decode_batch(answer: Answer, places: range) -> tuple[BatchResult, ApiError | None]:
    """Return what became of the events, which have these places in the caller's list.

    If all of them were rejected, the error of the answer is returned beside it. Raises the error of
    an answer that did not judge the events.
    """
    refusal = None
    if is_success(answer):
        batch = decode(answer, _Batch)
    else:
        refusal = api_error(answer)
        failure = _failure(answer)
        if failure is None or failure.results is None or not failure.results.rejected:
            raise refusal
        batch = _Batch(failure.error.request_id, failure.results)
    accepted, rejected = batch.results.accepted, batch.results.rejected
    indexes = {one.index for one in rejected}
    left = [place for index, place in enumerate(places) if index not in indexes]
    if len(left) != len(accepted) or len(left) + len(rejected) != len(places):
        raise _foreign(answer)
    result = BatchResult(
        (batch.request_id,),
        tuple(
            AcceptedEvent(place, one.event_type, one.timestamp)
            for place, one in zip(left, accepted, strict=True)
        ),
        tuple(RejectedEvent(places[one.index], one.code, one.message) for one in rejected),
    )
    return result, refusal


def join(results: Sequence[BatchResult]) -> BatchResult:
    """Return the results of the parts of a list as one."""
    return BatchResult(
        tuple(one for part in results for one in part.request_ids),
        tuple(one for part in results for one in part.accepted),
        tuple(one for part in results for one in part.rejected),
    )


def api_error(answer: Answer) -> ApiError:
    """Return the error of an answer that is no success."""
    failure = _failure(answer)
    if failure is None:
        return _foreign(answer)
    error = failure.error
    kind = CLASS_BY_CODE.get(error.code, ApiError)
    return kind(
        answer.status,
        error.code,
        error.message,
        error.request_id,
        error.docs_url,
        retry_after_seconds(answer),
    )


def retry_after_seconds(answer: Answer) -> float | None:
    """Return what the header Retry-After says, in seconds or as a date; None if it says neither."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    with suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _failure(answer: Answer) -> _Failure | None:
    try:
        return msgspec.json.decode(answer.content, type=_Failure)
    except _UNREADABLE:
        return None


def _foreign(answer: Answer) -> ApiError:
    """The error of an answer that the API does not give, as of a proxy."""
    shown = answer.content[:MAX_SHOWN_BYTES].decode("utf-8", "replace")
    message = f"not an answer of the ingest API: {shown!r}"
    kind = InternalError if answer.status >= 500 else ApiError
    request_id = answer.headers.get("x-request-id", "")
    return kind(answer.status, "", message, request_id, "", retry_after_seconds(answer))
