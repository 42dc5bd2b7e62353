"""The HTTP load: latency at a fixed rate, and servers that answer without end."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from service.bench.http_load import LoadError, run_http
from service.bench.load import HttpLoad
from service.bench.recorder import Recorder, now
from service.bench.success import Success

WAIT_SECONDS = 60.0
STALL_SECONDS = 0.5


@pytest.mark.timed
@pytest.mark.anyio
@pytest.mark.parametrize("skip_missed", [False, True])
async def test_latency_at_a_rate_counts_from_when_a_request_was_due(skip_missed: bool) -> None:
    """One stall of half a second is half a second for all that was due during it, or left out."""
    answered = 0
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                answered += 1
                if answered == 50:
                    await asyncio.sleep(STALL_SECONDS)
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()
        gone.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        recorder = Recorder(now(), 1.5)
        load = HttpLoad(f"http://127.0.0.1:{port}/", {}, "{}", 1, 1, 100.0, skip_missed=skip_missed)
        await run_http(load, recorder)
        await asyncio.wait_for(gone.wait(), WAIT_SECONDS)
    result = recorder.result()
    if skip_missed:
        assert result.requests <= 105
        assert result.latency_ms.max >= STALL_SECONDS * 900
        assert result.latency_ms.p90 < STALL_SECONDS * 500  # one of them was slow
        return
    # Of some 150 requests, one was sent before the stall and answered after it; 50 were due.
    assert 100 <= result.requests <= 155
    assert result.latency_ms.max >= STALL_SECONDS * 900
    assert result.latency_ms.p90 >= STALL_SECONDS * 500


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("head", "body", "success", "problem"),
    [
        ("500 Oops", b"x" * 65_536, Success(), "status 500: xxx"),
        ("200 OK", b" " * 65_536, Success(path="ok"), "too many to be judged"),
    ],
    ids=["failure", "document"],
)
async def test_a_server_that_answers_without_end_is_a_load_that_cannot_be_made(
    head: str, body: bytes, success: Success, problem: str
) -> None:
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {head}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            while True:
                writer.write(b"%x\r\n%b\r\n" % (len(body), body))
                await writer.drain()
        writer.close()
        gone.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        load = HttpLoad(f"http://127.0.0.1:{port}/", {}, "{}", 1, 1, None, "POST", success)
        with pytest.raises(LoadError, match=problem):
            await run_http(load, Recorder(now(), WAIT_SECONDS))
        await asyncio.wait_for(gone.wait(), WAIT_SECONDS)
