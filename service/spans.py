"""The spans of core/tracing.py, recorded with OpenTelemetry.

A module to be imported only where traces are on: OpenTelemetry is an extra.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core.error_codes import ErrorCode
from core.journal.mode import UnexpectedOutcomeError
from core.journal.worker_changes import WorkersChangedError
from core.tracing import UNTRACED, Attributes, Parent, Span, Step

SERVICE_NAME: Final = "wepeople-ingest"  # unless OTEL_SERVICE_NAME or the resource has another
MAX_LINKS: Final = 128  # of a transaction to its requests; each request has its own to it

T = TypeVar("T")


class OtelSpan:
    """The span of a request or of a batch. ``sampled_by_caller``: None if the caller has no say."""

    def __init__(
        self, tracer: trace.Tracer, span: trace.Span, *, sampled_by_caller: bool | None = None
    ) -> None:
        self.span = span
        self._tracer = tracer
        self._sampled_by_caller = sampled_by_caller

    @property
    def traceparent(self) -> str:
        """The span in W3C Trace Context."""
        context = self.span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def begin_batch(self) -> OtelSpan:
        """The span of a batch, linked to this one; not recorded if the caller says no."""
        if self._sampled_by_caller is False:
            return OtelSpan(self._tracer, trace.INVALID_SPAN)
        link = Link(self.span.get_span_context())
        batch = self._tracer.start_span(
            "stream batch", Context(), SpanKind.CONSUMER, {"rpc.system": "grpc"}, [link]
        )
        return OtelSpan(self._tracer, batch)

    def annotate(self, attributes: Attributes) -> None:
        """Add attributes."""
        self.span.set_attributes(attributes)

    def end(self, code: str | None) -> None:
        """End it. Only the service's own failure is an error by OpenTelemetry's conventions."""
        if code is not None:
            self.span.set_attribute("error.type", code)
        if code == ErrorCode.INTERNAL_ERROR:
            self.span.set_status(StatusCode.ERROR)
        self.span.end()


class OtelTracer:
    """Records spans for an exporter, in a queue that drops the oldest when it is full.

    The sampler is the one that OTEL_TRACES_SAMPLER names, the size of the queue
    OTEL_BSP_MAX_QUEUE_SIZE. A transaction is recorded if one of its requests is.
    """

    def __init__(self, exporter: SpanExporter, version: str) -> None:
        self._end_attempts: Callable[[], None] = exporter.shutdown
        self._processor: SpanProcessor = BatchSpanProcessor(exporter)
        resource = _resource(version)
        requests = TracerProvider(resource=resource, shutdown_on_exit=False)
        transactions = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        for provider in (requests, transactions):
            provider.add_span_processor(self._processor)
        self._requests = requests.get_tracer(SERVICE_NAME, version)
        self._transactions = transactions.get_tracer(SERVICE_NAME, version)
        self._propagator = TraceContextTextMapPropagator()

    def begin_request(self, name: str, parent: Parent | None, attributes: Attributes) -> OtelSpan:
        """Begin the span of a request; a parent that is not well-formed is none."""
        context, sampled = Context(), None
        if parent is not None:
            context = self._propagator.extract(parent._asdict(), context)
            remote = trace.get_current_span(context).get_span_context()
            sampled = remote.trace_flags.sampled if remote.is_valid else None
        span = self._requests.start_span(name, context, SpanKind.SERVER, attributes)
        return OtelSpan(self._requests, span, sampled_by_caller=sampled)

    @contextlib.contextmanager
    def transaction(self, members: Sequence[Span], attributes: Attributes) -> Iterator[Step]:
        """Record the block, if a member is recorded and not answered yet."""
        recorded = [
            member.span
            for member in members
            if isinstance(member, OtelSpan) and member.span.is_recording()
        ]
        if not recorded:
            yield UNTRACED
            return
        links = [Link(span.get_span_context()) for span in recorded[:MAX_LINKS]]
        span = self._transactions.start_span(
            "journal transaction", Context(), attributes=attributes, links=links
        )
        for member in recorded:
            member.add_link(span.get_span_context())
        context = trace.set_span_in_context(span, Context())

        async def in_span(name: str, work: Awaitable[T]) -> T:
            step = self._transactions.start_span(
                name, context, SpanKind.CLIENT, {"db.system.name": "postgresql"}
            )
            with _ending(step):
                return await work

        with _ending(span):
            yield in_span

    def shut_down(self) -> None:
        """Export what is queued; blocks until that is done, or :meth:`give_up` is called."""
        self._processor.shutdown()

    def give_up(self) -> None:
        """End the attempts to export."""
        self._end_attempts()


def otlp_tracer(endpoint: str, version: str) -> OtelTracer:
    """A tracer that exports over OTLP/HTTP; the rest of its settings are variables.

    ``endpoint``: a URL without the path of a signal.
    """
    of_traces = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
    return OtelTracer(OTLPSpanExporter(of_traces or f"{endpoint}/v1/traces"), version)


def _resource(version: str) -> Resource:
    resource = Resource.create({"service.version": version, "process.pid": os.getpid()})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        return resource.merge(Resource({"service.name": SERVICE_NAME}))
    return resource


@contextlib.contextmanager
def _ending(span: trace.Span) -> Iterator[None]:
    """End the span with the block. The text of an error is not kept: it can have values of rows."""
    try:
        yield
    except BaseException as error:
        span.set_attribute("error.type", getattr(error, "sqlstate", None) or type(error).__name__)
        if not isinstance(error, UnexpectedOutcomeError | WorkersChangedError):
            span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()
