"""A collector of OpenTelemetry traces: it takes OTLP over HTTP and keeps the spans."""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

# Of the protocol's `Span.SpanKind`.
INTERNAL: Final = 1
SERVER: Final = 2
CLIENT: Final = 3
CONSUMER: Final = 5


@dataclass(frozen=True)
class CollectedSpan:
    """A span as it was exported. Ids are hexadecimal; ``parent`` is empty for a root."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]  # (trace, id)
    attributes: dict[str, str | int]
    failed: bool
    resource: dict[str, str | int]

    @property
    def place(self) -> tuple[str, str]:
        """The span's own trace and id, as links have them."""
        return self.trace, self.id


class Collector:
    """Listens on a free port of loopback; a context manager. ``spans`` are those it was sent."""

    def __init__(self) -> None:
        self.spans: list[CollectedSpan] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                assert self.headers["content-type"] == "application/x-protobuf"
                collector.spans += spans_of(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="collector")

    @property
    def endpoint(self) -> str:
        """Its URL, as OTEL_EXPORTER_OTLP_ENDPOINT has it."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def named(self, name: str) -> list[CollectedSpan]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> CollectedSpan:
        """The one span of this name."""
        (span,) = self.named(name)
        return span

    def children(self, parent: CollectedSpan) -> list[str]:
        """The names of the spans below another, in the order in which they ended."""
        return [
            span.name
            for span in self.spans
            if (span.trace, span.parent) == (parent.trace, parent.id)
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def spans_of(request: ExportTraceServiceRequest) -> list[CollectedSpan]:
    """The spans of a message."""
    return [
        CollectedSpan(
            span.name,
            span.kind,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
            _values(span.attributes),
            span.status.code == span.status.STATUS_CODE_ERROR,
            _values(of_resource.resource.attributes),
        )
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def _values(attributes: Any) -> dict[str, str | int]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
