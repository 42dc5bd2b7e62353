"""The headers of answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from core import limits
from http_api.docs.openapi.nodes import Node

EVERY_HEADER: Final = ("X-Request-Id", "X-API-Version")
KEY_HEADERS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining")


def headers() -> Node:
    """Every header by its name."""
    retry_after = {"schema": {"type": "integer", "minimum": 1}}
    return {
        "X-Request-Id": {
            "description": "Names this request, on a replay the first one; quote it in questions.",
            "required": True,
            "schema": {"$ref": "#/components/schemas/RequestId"},
        },
        "X-API-Version": {
            "description": "The version of the API that answered.",
            "required": True,
            "schema": {"type": "string", "const": limits.API_VERSION},
        },
        "X-RateLimit-Limit": {
            "description": "Requests per second the key may make. Sent once the key is known.",
            "schema": {"type": "integer", "minimum": 1},
        },
        "X-RateLimit-Remaining": {
            "description": "Requests the key may make right now. Sent once the key is known.",
            "schema": {"type": "integer", "minimum": 0},
        },
        "Idempotency-Replayed": {
            "description": "`true` on the answer to a request that was answered before.",
            "schema": {"type": "string", "const": "true"},
        },
        "WWW-Authenticate": {
            "description": "The scheme to authenticate with.",
            "required": True,
            "schema": {"type": "string", "const": "Bearer"},
        },
        "Retry-After": retry_after
        | {"description": "Whole seconds to wait before the next request.", "required": True},
        "Retry-After-If-Known": retry_after
        | {"description": "Whole seconds to wait, when the failure is one that passes."},
    }


def header_refs(names: Iterable[str]) -> Node:
    """The headers of one answer."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
