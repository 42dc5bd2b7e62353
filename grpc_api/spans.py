"""Spans of calls and of batches of streams, by OpenTelemetry's conventions for RPC."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from core.counters import CANCELLED
from core.error_codes import ErrorCode
from core.errors import IngestError, StreamError
from core.models import Caller, EventBatch, Receipt
from core.tracing import Parent, Span, Tracer, request_attributes

# The method of each endpoint of the metrics.
_METHODS: Final = {
    "ping": "Ping",
    "events": "IngestEvents",
    "snapshots": "IngestSnapshot",
    "stream": "StreamEvents",
}


def begin_call(
    tracer: Tracer, service: str, endpoint: str, metadata: Iterable[tuple[str, str | bytes]]
) -> Span:
    """Begin the span of a call; its metadata have the caller's."""
    traceparents, tracestates = (
        [str(value) for name, value in metadata if name == wanted]
        for wanted in ("traceparent", "tracestate")
    )
    method = _METHODS[endpoint]
    return tracer.begin_request(
        f"{service}/{method}",
        Parent.of(traceparents, tracestates),
        {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
    )


def end_batch(span: Span, error: BaseException | None) -> None:
    """End the span of a batch that has its ack, or the error that ends its stream."""
    code: str | None = None
    if isinstance(error, IngestError):
        code = error.code
    elif isinstance(error, StreamError):
        code = error.reason
    elif error is not None:
        is_cancelled = isinstance(error, asyncio.CancelledError)
        code = CANCELLED if is_cancelled else ErrorCode.INTERNAL_ERROR
    span.end(code)


def end_with_receipt(
    span: Span, caller: Caller, batch: EventBatch, receipt: asyncio.Future[Receipt]
) -> None:
    """End the span of a batch once its receipt is there."""
    span.annotate(request_attributes(batch.request_id, caller, len(batch.events)))

    def end(receipt: asyncio.Future[Receipt]) -> None:
        is_cancelled = receipt.cancelled()
        end_batch(span, asyncio.CancelledError() if is_cancelled else receipt.exception())

    receipt.add_done_callback(end)
