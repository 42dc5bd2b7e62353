"""HTTP/2 by hand, for frames that a client library is too polite to send."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from typing import Final

from tests.pressure.wire import Connection

SERVICE: Final = "/wepeople.ingest.v1.IngestService/"
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    *(0, 1, 3, 4),
    *(6, 7, 8, 9),
)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE: Final = 4
CANCEL: Final = struct.pack(">I", 8)
MAX_FRAME: Final = 16_384
OUR_WINDOW: Final = 2**30  # a stream's: we never make the server wait for us to read
DEFAULT_WINDOW: Final = 65_535


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _length(value: int, prefix_bits: int, first: int) -> bytes:
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value % 128 | 128)
        value //= 128
    return bytes([*out, value])


def literal(name: str, value: str, *, first: int = 0x00) -> bytes:
    """A header field as HPACK, not indexed; with ``first=0x40`` it enters the table, at 62."""
    parts = [bytes([first])]
    for text in (name.encode(), value.encode()):
        parts += (_length(len(text), 7, 0), text)
    return b"".join(parts)


def call_headers(method: str, key: str | None) -> bytes:
    """The header block that begins a gRPC call."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", SERVICE + method),
        (":authority", "test"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    if key is not None:
        fields.append(("authorization", f"Bearer {key}"))
    return b"".join(literal(name, value) for name, value in fields)


def message(data: bytes, declared: int | None = None) -> bytes:
    """A gRPC message, or the beginning of one that says it is longer."""
    return struct.pack(">BI", 0, len(data) if declared is None else declared) + data


class Http2(Connection):
    """A connection that speaks just enough: settings, windows, pings, streams that end."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()
        self._next_stream = 1
        self._open: set[int] = set()  # streams that the server has not ended
        self._window = DEFAULT_WINDOW  # what the server lets us send
        self._stream_window = DEFAULT_WINDOW
        self._windows: dict[int, int] = {}
        self._waiting: dict[int, tuple[memoryview, bool]] = {}  # data, and whether it is the end

    def begin(self) -> None:
        """Send the preface, then what the pressure begins with."""
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, OUR_WINDOW)
        grown = struct.pack(">I", OUR_WINDOW)
        self.transport.write(
            PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, grown)
        )
        self.begin_calls()

    def begin_calls(self) -> None:
        """Do what the pressure is."""

    def ended(self, stream: int) -> None:
        """Note that the server ended a stream."""

    def received(self, stream: int, length: int) -> None:
        """Note that the server sent data, or headers (of length 0), in a stream."""

    def open(self, headers: bytes, data: bytes | None = None, *, end: bool = True) -> int:
        """Begin a stream, and send data in it as the windows let us; ``end`` it with them."""
        stream = self._next_stream
        self._next_stream += 2
        self._open.add(stream)
        self.transport.write(frame(HEADERS, END_HEADERS, stream, headers))
        if data is not None:
            self._windows[stream] = self._stream_window
            self._waiting[stream] = (memoryview(data), end)
            self._pump((stream,))
        return stream

    def reset(self, stream: int) -> None:
        """Have the server forget a stream."""
        self._forget(stream)
        self.transport.write(frame(RST_STREAM, 0, stream, CANCEL))

    def _forget(self, stream: int) -> None:
        self._open.discard(stream)
        self._windows.pop(stream, None)
        self._waiting.pop(stream, None)

    def _pump(self, streams: Iterable[int]) -> None:
        out = []
        for stream in streams:
            data, end = self._waiting[stream]
            while data and (size := min(self._window, self._windows[stream], MAX_FRAME)) > 0:
                part, data = data[:size], data[size:]
                self._window -= len(part)
                self._windows[stream] -= len(part)
                out.append(frame(DATA, END_STREAM if end and not data else 0, stream, bytes(part)))
            if data:
                self._waiting[stream] = (data, end)
            else:
                del self._windows[stream], self._waiting[stream]
        self.transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        """Take the frames that are whole."""
        buffer = self._buffer
        buffer += data
        begin = 0
        while len(buffer) - begin >= 9:
            length = int.from_bytes(buffer[begin : begin + 3], "big")
            if len(buffer) - begin < 9 + length:
                break
            kind, flags = buffer[begin + 3], buffer[begin + 4]
            stream = int.from_bytes(buffer[begin + 5 : begin + 9], "big")
            self._frame(kind, flags, stream, bytes(buffer[begin + 9 : begin + 9 + length]))
            begin += 9 + length
        del buffer[:begin]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._take_settings(payload)
            self.transport.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.transport.write(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            self._grow(stream, int.from_bytes(payload, "big"))
        elif kind == GOAWAY:
            self.transport.close()
        elif kind in (DATA, HEADERS):
            if kind == DATA and payload:
                self.transport.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload))))
            self.received(stream, len(payload) if kind == DATA else 0)
            if flags & END_STREAM:
                self._end(stream)
        elif kind == RST_STREAM:
            self._end(stream)

    def _end(self, stream: int) -> None:
        if stream in self._open:  # one that the server ends before us is reset as well
            self._forget(stream)
            self.ended(stream)

    def _take_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == INITIAL_WINDOW_SIZE:
                grown = value - self._stream_window
                self._stream_window = value
                for stream in self._windows:
                    self._windows[stream] += grown
        self._pump(tuple(self._waiting))

    def _grow(self, stream: int, size: int) -> None:
        if stream == 0:
            self._window += size
            self._pump(tuple(self._waiting))
        elif stream in self._windows:
            self._windows[stream] += size
            self._pump((stream,))


class Calls(Http2):
    """Keeps so many calls of one method going on a connection, each with the same message.

    A call that is answered with a message counts as ``ok``, one without as ``not ok``.
    """

    def __init__(self, answers: dict[str, int], at_once: int, headers: bytes, data: bytes) -> None:
        super().__init__()
        self._answers, self._at_once = answers, at_once
        self._headers, self._data = headers, data
        self._with_message: set[int] = set()

    def begin_calls(self) -> None:
        """Begin them all."""
        for _ in range(self._at_once):
            self.open(self._headers, self._data)

    def received(self, stream: int, length: int) -> None:
        """Note a message."""
        if length:
            self._with_message.add(stream)

    def ended(self, stream: int) -> None:
        """Begin the next call."""
        self._answers["ok" if stream in self._with_message else "not ok"] += 1
        self._with_message.discard(stream)
        self.open(self._headers, self._data)


async def write_on(connection: Connection, chunk: bytes) -> None:
    """Write the same bytes as fast as the peer takes them, until the connection is lost."""
    while not connection.lost.done():
        connection.transport.write(chunk)
        await connection.writable.wait()
        await asyncio.sleep(0)
