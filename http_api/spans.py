"""The beginning of a request's span, by OpenTelemetry's conventions for HTTP servers."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from core.tracing import Span, Tracer
from http_api.headers import RequestHeaders

# Any other method is a word of the client's, of which there is no end.
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"))


def begin_span(tracer: Tracer, scope: Scope) -> Span:
    """Begin the span of a request to one of the three endpoints, whose path is its route."""
    path: str = scope["path"]
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
    return tracer.begin_request(
        f"{'HTTP' if method == '_OTHER' else method} {path}",
        RequestHeaders(scope).trace_parent(),
        {
            "http.request.method": method,
            "http.route": path,
            "url.path": path,
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
        },
    )
