"""Reading a request's body: bounded in bytes, after inflating too, and in time."""

from __future__ import annotations

import zlib
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from core.error_codes import ErrorCode
from core.errors import IngestError
from core.limits import MAX_BODY_BYTES
from http_api.decoding import invalid_body
from http_api.headers import RequestHeaders
from http_api.protocol import MAX_BODY_SECONDS

# One for each event of a batch; what comes after a member is copied for each.
MAX_GZIP_MEMBERS: Final = 500
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


async def read_body(headers: RequestHeaders, receive: Receive) -> bytes:
    """The body after decompression.

    Raises ``batch_too_large`` as soon as it is known to be over the limit, by what arrived and
    not by what Content-Length claims; ``invalid_body`` for an encoding that is not supported or
    broken and for a body that does not arrive in time; :class:`ClientDisconnect` if it never
    will. What is left unread is discarded by the server.
    """
    if headers.content_length() > MAX_BODY_BYTES:
        raise _too_large()
    gzipped = headers.is_gzipped()
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        try:
            message = await receive()
        except TimeoutError:
            raise invalid_body(
                f"The body did not arrive within {MAX_BODY_SECONDS:.0f} seconds."
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message["body"])
        more = message["more_body"]
        size += len(message["body"])
        if size > MAX_BODY_BYTES:
            raise _too_large()
    body = b"".join(chunks)
    return _inflate(body) if gzipped else body


def _too_large() -> IngestError:
    return IngestError(
        ErrorCode.BATCH_TOO_LARGE,
        f"The body is over {MAX_BODY_BYTES} bytes after decompression; send smaller batches.",
    )


def _inflate(body: bytes) -> bytes:
    """Decompress all members of a gzip body (RFC 1952), stopping at the limit."""
    parts: list[bytes] = []
    room = MAX_BODY_BYTES + 1
    while body:
        if len(parts) == MAX_GZIP_MEMBERS:
            raise invalid_body(f"The gzip body has over {MAX_GZIP_MEMBERS} members.")
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            part = member.decompress(body, room)
        except zlib.error:
            raise invalid_body("The body is not valid gzip, as Content-Encoding claims.") from None
        parts.append(part)
        room -= len(part)
        if room <= 0:
            raise _too_large()
        if not member.eof:
            raise invalid_body("The gzip body is cut off.")
        body = member.unused_data
    return b"".join(parts)
