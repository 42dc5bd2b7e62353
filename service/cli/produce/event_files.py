"""Files of events, one a line, in chunks of lines that fit into a batch each.

As no event takes more bytes in a message than in its line, a batch's bytes are bounded by those of
its lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final, NamedTuple

from core.limits import MAX_BODY_BYTES

# Leaves room for the other fields of the message, and for four bytes beside each event.
MAX_CHUNK_BYTES: Final = MAX_BODY_BYTES - 4_096
MAX_LINE_BYTES: Final = MAX_CHUNK_BYTES - 1
BEGINNING_BYTES: Final = 1_024  # kept of a line that is too long
CHUNKS_AHEAD: Final = 8
_PIECE_BYTES: Final = 1_048_576
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# Part of the fingerprint: when the rule of which lines are events changes, so does their count, and
# the file needs another producer.
_RULE: Final = "wepeople-ingest produce 1"


class Line(NamedTuple):
    """A line that is not blank; of one that is too long, ``text`` is only the beginning."""

    number: int  # from 1, blank ones counted
    text: bytes
    is_whole: bool = True


@dataclass(frozen=True)
class Chunk:
    """Lines that fit into one batch, and how far in the source they end."""

    lines: list[Line]  # at least one
    end: int  # in bytes


class FileChangedError(OSError):
    """A file has changed since its fingerprint was taken."""


def fingerprint(source: IO[bytes]) -> tuple[str, int]:
    """A producer id for a file's content, and the content's length."""
    digest = _new_digest()
    size = 0
    while piece := source.read(_PIECE_BYTES):
        digest.update(piece)
        size += len(piece)
    return _name(digest), size


def chunks(
    source: IO[bytes], max_lines: int, expected: tuple[str, int] | None = None
) -> Iterator[Chunk]:
    """The lines of a source, chunk by chunk; blank lines are in none.

    With ``expected``, from :func:`fingerprint`, no more is read than the length then, and
    :class:`FileChangedError` is raised at the end if the content is not the same.
    """
    digest = _new_digest()
    end = size = 0
    lines: list[Line] = []
    read = _lines(source, None if expected is None else expected[1], digest)
    for number, (text, is_whole, length) in enumerate(read, 1):
        stripped = text.strip()
        if stripped or not is_whole:
            if len(lines) == max_lines or size + len(stripped) > MAX_CHUNK_BYTES:
                yield Chunk(lines, end)
                lines, size = [], 0
            lines.append(Line(number, stripped, is_whole))
            size += len(stripped)
        end += length
    if expected is not None and (_name(digest), end) != expected:
        raise FileChangedError("the file was changed while it was read")
    if lines:
        yield Chunk(lines, end)


def _lines(
    source: IO[bytes], left: int | None, digest: hashlib._Hash
) -> Iterator[tuple[bytes, bool, int]]:
    """Each line: its text, whether that is all of it, its length in bytes, end of line included.

    ``left``: how many bytes of the source there are for us; None is all.
    """

    def read(most: int) -> bytes:
        nonlocal left
        text = source.readline(most if left is None else min(most, left))
        digest.update(text)
        if left is not None:
            left -= len(text)
        return text

    is_first = True
    while text := read(MAX_LINE_BYTES + 1):
        length = len(text)
        rest = text
        while not rest.endswith(b"\n") and (rest := read(_PIECE_BYTES)):
            length += len(rest)
        is_whole = len(text) == length
        if is_first:
            text = text.removeprefix(_BYTE_ORDER_MARK)
            is_first = False
        yield (text if is_whole else text[:BEGINNING_BYTES]), is_whole, length


class ReadAhead:
    """Reads chunks in a thread, a few ahead, so that a read that blocks does not block the loop."""

    def __init__(self, source: Iterator[Chunk]) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()
        self._room = threading.Semaphore(CHUNKS_AHEAD)
        # Not joined: a read of a terminal or a pipe cannot be interrupted.
        threading.Thread(target=self._read, name="reader", daemon=True).start()

    async def next(self) -> Chunk | None:
        """The next chunk; None at the end. Raises what reading raised."""
        item = await self._queue.get()
        self._room.release()
        if isinstance(item, Exception):
            raise item
        return item

    def _read(self) -> None:
        item: Chunk | Exception | None
        try:
            for item in self._source:
                self._room.acquire()
                self._put(item)
            item = None
        except Exception as error:
            item = error
        self._put(item)

    def _put(self, item: Chunk | Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nothing reads on
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)


def _new_digest() -> hashlib._Hash:
    return hashlib.sha256(f"{_RULE}\0".encode())


def _name(digest: hashlib._Hash) -> str:
    return f"file-{digest.hexdigest()[:40]}"
