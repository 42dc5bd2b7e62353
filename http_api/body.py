"""Reads a request's body, bounded in bytes (also after inflating), in memory and in time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from core.access.shared_budget import Holding
from core.errors import unavailable
from core.limits import MAX_BODY_BYTES
from http_api.decoding import invalid_body
from http_api.errors import body_too_large
from http_api.headers import RequestHeaders

# A body is slow that takes longer for its next MIN_PROGRESS_BYTES, or for its end.
MIN_PROGRESS_BYTES: Final = 16_384
PROGRESS_SECONDS: Final = 5.0
MAX_BODY_SECONDS: Final = 60.0
# An estimate of what a connection takes beside the body as long as the body arrives.
ARRIVING_BYTES: Final = 65_536
# A body that came whole and is no larger is decoded before anything else happens.
MAX_UNHELD_BYTES: Final = 8_192
# Enough for one member an event. Each member copies the bytes behind it.
MAX_GZIP_MEMBERS: Final = 500
INFLATED_PIECE_BYTES: Final = 262_144
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


# Returns when another piece may be read.
InTurn = Callable[[], Awaitable[None]]


async def read_body(
    headers: RequestHeaders, receive: Receive, memory: Holding, in_turn: InTurn
) -> bytes:
    """Return the body, inflated if it is gzipped; ``memory`` holds it, and is the caller's to free.

    Raises ``batch_too_large`` as soon as the declared length, the bytes that arrived or the bytes
    inflated exceed :data:`~core.limits.MAX_BODY_BYTES`. Raises ``invalid_body`` for an encoding
    that is unsupported or broken. Raises ``internal_error``, transient, if there is no room for
    more of the body, and if it arrives too slowly. Raises :class:`ClientDisconnect` if the client
    went away. The server discards the rest of a body that is not read.
    """
    if headers.content_length() > MAX_BODY_BYTES:
        raise body_too_large()
    gzipped = headers.is_gzipped()
    first, more = _piece(await receive())
    if not (more or gzipped) and len(first) <= MAX_UNHELD_BYTES:
        return first
    memory.grow(len(first))
    body = await _gather(first, receive, memory, in_turn) if more else first
    return await _inflate(body, memory, in_turn) if gzipped else body


async def _gather(first: bytes, receive: Receive, memory: Holding, in_turn: InTurn) -> bytes:
    memory.grow(ARRIVING_BYTES)
    loop = asyncio.get_running_loop()
    chunks, size, progress, more = [first], len(first), 0, True
    last_moment = loop.time() + MAX_BODY_SECONDS
    try:
        async with asyncio.timeout(PROGRESS_SECONDS) as timer:
            while more:
                await in_turn()
                chunk, more = _piece(await receive())
                memory.grow(len(chunk))
                chunks.append(chunk)
                size += len(chunk)
                progress += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise body_too_large()
                if progress >= MIN_PROGRESS_BYTES:
                    progress = 0
                    timer.reschedule(min(loop.time() + PROGRESS_SECONDS, last_moment))
    except TimeoutError:
        raise unavailable("The body arrives too slowly.") from None
    return b"".join(chunks)


def _piece(message: Message) -> tuple[bytes, bool]:
    """Return a piece of the body, and whether more of it is to come."""
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message["body"], message["more_body"]


async def _inflate(body: bytes, memory: Holding, in_turn: InTurn) -> bytes:
    """Return the contents of all members of a gzip body (RFC 1952), read up to the limit."""
    parts: list[bytes] = []
    members = size = 0
    while body:
        if members == MAX_GZIP_MEMBERS:
            raise invalid_body(f"The gzip body has over {MAX_GZIP_MEMBERS} members.")
        members += 1
        member = zlib.decompressobj(_GZIP_WINDOW)
        while body and not member.eof:
            await in_turn()
            try:
                part = member.decompress(body, INFLATED_PIECE_BYTES)
            except zlib.error:
                message = "The body is not valid gzip, as Content-Encoding claims."
                raise invalid_body(message) from None
            memory.grow(len(part))
            parts.append(part)
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise body_too_large()
            if not (part or member.eof):
                break
            body = member.unconsumed_tail
        if not member.eof:
            raise invalid_body("The gzip body is cut off.")
        body = member.unused_data
    return b"".join(parts)
