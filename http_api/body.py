"""Reads a request's body, bounded in bytes (also after inflating) and in time."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from core.error_codes import ErrorCode
from core.errors import IngestError
from core.limits import MAX_BODY_BYTES
from http_api.decoding import invalid_body
from http_api.headers import RequestHeaders

# Clients give up at 15 seconds; a body slower than this only occupies its connection.
MAX_BODY_SECONDS: Final = 10.0
# Enough for one member an event. Each member copies the bytes behind it.
MAX_GZIP_MEMBERS: Final = 500
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


async def read_body(headers: RequestHeaders, receive: Receive) -> bytes:
    """Return the body, inflated if it is gzipped.

    Raises ``batch_too_large`` as soon as the declared length, the bytes that arrived or the bytes
    inflated exceed :data:`~core.limits.MAX_BODY_BYTES`. Raises ``invalid_body`` for an encoding
    that is unsupported or broken, and if the body is not complete within
    :data:`MAX_BODY_SECONDS`. Raises :class:`ClientDisconnect` if the client went away. The server
    discards the rest of a body that is not read.
    """
    if headers.content_length() > MAX_BODY_BYTES:
        raise _too_large()
    gzipped = headers.is_gzipped()
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            body = await _gather(receive)
    except TimeoutError:
        raise invalid_body(
            f"The body did not arrive within {MAX_BODY_SECONDS:.0f} seconds."
        ) from None
    return _inflate(body) if gzipped else body


async def _gather(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message["body"])
        more = message["more_body"]
        size += len(message["body"])
        if size > MAX_BODY_BYTES:
            raise _too_large()
    return b"".join(chunks)


def _too_large() -> IngestError:
    return IngestError(
        ErrorCode.BATCH_TOO_LARGE,
        f"The body is over {MAX_BODY_BYTES} bytes after decompression; send smaller batches.",
    )


def _inflate(body: bytes) -> bytes:
    """Return the contents of all members of a gzip body (RFC 1952), read up to the limit."""
    parts: list[bytes] = []
    remaining = MAX_BODY_BYTES + 1
    while body:
        if len(parts) == MAX_GZIP_MEMBERS:
            raise invalid_body(f"The gzip body has over {MAX_GZIP_MEMBERS} members.")
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            part = member.decompress(body, remaining)
        except zlib.error:
            raise invalid_body("The body is not valid gzip, as Content-Encoding claims.") from None
        parts.append(part)
        remaining -= len(part)
        if remaining <= 0:
            raise _too_large()
        if not member.eof:
            raise invalid_body("The gzip body is cut off.")
        body = member.unused_data
    return b"".join(parts)
