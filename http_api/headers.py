"""The header fields of a request that the service reads."""

from __future__ import annotations

from starlette.types import Scope

from core.tracing import Parent
from http_api.decoding import invalid_body


class RequestHeaders:
    """The header fields of one request."""

    __slots__ = ("_by_name", "_fields", "_has_repeats")

    def __init__(self, scope: Scope) -> None:
        self._fields: list[tuple[bytes, bytes]] = scope["headers"]
        self._by_name = dict(self._fields)  # the last value of a repeated field
        self._has_repeats = len(self._by_name) < len(self._fields)

    def _values(self, name: bytes) -> list[bytes]:
        value = self._by_name.get(name)
        if value is None:
            return []
        if not self._has_repeats:
            return [value]
        return [value for other, value in self._fields if other == name]

    def authorization(self) -> str | None:
        """Return the credential, None without one. Several are joined, which no key matches."""
        values = self._values(b"authorization")
        # Whichever of two credentials we took, the client may have meant the other.
        return b", ".join(values).decode("latin-1") if values else None

    def idempotency_key(self) -> str | None:
        """Return the key, None without one. Raises ``invalid_body`` if there are several."""
        values = self._values(b"idempotency-key")
        if len(values) > 1:
            raise invalid_body("Idempotency-Key: must be sent once")
        if not values:
            return None
        try:
            return values[0].decode()  # clients that send more than ASCII send UTF-8
        except UnicodeDecodeError:
            return values[0].decode("latin-1")

    def trace_parent(self) -> Parent | None:
        """Return the caller's span, None without one."""
        traceparents, tracestates = (
            [value.decode("latin-1") for value in self._values(name)]
            for name in (b"traceparent", b"tracestate")
        )
        return Parent.of(traceparents, tracestates)

    def check_content_type(self) -> None:
        """Raise ``invalid_body`` unless the body is declared to be JSON in UTF-8."""
        values = self._values(b"content-type")
        if values == [b"application/json"]:
            return
        declared = values[0].decode("latin-1") if values else ""
        media_type, *parameters = declared.lower().split(";")
        if media_type.strip() != "application/json":
            raise invalid_body("Content-Type: must be application/json")
        for parameter in parameters:
            name, _, value = parameter.strip().partition("=")
            if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
                raise invalid_body("Content-Type: the charset must be utf-8")

    def content_length(self) -> int:
        """Return the declared length in bytes, 0 if none is declared."""
        values = self._values(b"content-length")
        # The server's parser has already refused values that are not numbers.
        return int(values[0] or 0) if values else 0

    def is_gzipped(self) -> bool:
        """Whether the body is gzipped. Raises ``invalid_body`` for any other encoding."""
        values = self._values(b"content-encoding")
        if not values:
            return False
        encodings = b",".join(values).strip().lower()
        if encodings not in (b"", b"identity", b"gzip", b"x-gzip"):
            raise invalid_body("Content-Encoding: must be gzip or identity")
        return encodings in (b"gzip", b"x-gzip")
