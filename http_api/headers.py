"""The header fields of a request that the service reads."""

from __future__ import annotations

from starlette.types import Scope

from http_api.decoding import invalid_body


class RequestHeaders:
    """The header fields of one request."""

    __slots__ = ("_by_name", "_fields")

    def __init__(self, scope: Scope) -> None:
        self._fields: list[tuple[bytes, bytes]] = scope["headers"]
        self._by_name = dict(self._fields)  # the last value of a repeated field

    def _values(self, name: bytes) -> list[str]:
        value = self._by_name.get(name)
        if value is None:
            return []
        if len(self._by_name) == len(self._fields):  # nothing was repeated
            return [value.decode("latin-1")]
        return [value.decode("latin-1") for other, value in self._fields if other == name]

    def authorization(self) -> str | None:
        """Return the credential, None without one. Several are joined, which no key matches."""
        values = self._values(b"authorization")
        # Whichever of two credentials we took, the client may have meant the other.
        return ", ".join(values) if values else None

    def idempotency_key(self) -> str | None:
        """Return the key, None without one. Raises ``invalid_body`` if there are several."""
        values = self._values(b"idempotency-key")
        if len(values) > 1:
            raise invalid_body("Idempotency-Key: must be sent once")
        if not values:
            return None
        try:
            # It was decoded as Latin-1; clients that send more than ASCII send UTF-8.
            return values[0].encode("latin-1").decode()
        except UnicodeDecodeError:
            return values[0]

    def check_content_type(self) -> None:
        """Raise ``invalid_body`` unless the body is declared to be JSON in UTF-8."""
        values = self._values(b"content-type")
        if values == ["application/json"]:
            return
        media_type, *parameters = (values[0] if values else "").lower().split(";")
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
        if b"content-encoding" not in self._by_name:
            return False
        encodings = ",".join(self._values(b"content-encoding")).strip().lower()
        if encodings not in ("", "identity", "gzip", "x-gzip"):
            raise invalid_body("Content-Encoding: must be gzip or identity")
        return encodings in ("gzip", "x-gzip")
