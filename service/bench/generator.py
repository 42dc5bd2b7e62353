"""The generator: the process that makes the load, apart from the service and from the report.

``python -m service.bench.generator`` reads one :class:`Work` from standard input and writes each
:class:`Message` to standard output, as a line of JSON. It ends when the work is done, and also when
its standard input is closed, so that it does not outlive the process that started it.

With ``--bare HTTP-PORT GRPC-PORT`` it reads a :class:`Storage` and serves the yardsticks instead.
With ``--serve ARGUMENT...`` it is the service.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from contextlib import suppress

import msgspec
import psycopg
import uvloop

from core.failure_log import one_line
from service.bench.http_load import LoadError, run_http
from service.bench.load import (
    WARM_UP_SECONDS,
    Began,
    CallLoad,
    CopyLoad,
    Done,
    Ended,
    Failed,
    HttpLoad,
    InsertLoad,
    Load,
    Message,
    Progress,
    Storage,
    StreamLoad,
    UnaryLoad,
    Work,
)
from service.bench.recorder import Recorder, now
from service.bench.yardsticks import run_copy, run_insert, serve_bare

PROGRESS_SECONDS = 0.25


def send(message: Message) -> None:
    """Write a message, one line on stdout."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


async def make(work: Work) -> Done:
    """Make the loads at the same time and return their figures.

    Raises LoadError if one of them cannot be made.
    """
    if any(isinstance(load, StreamLoad | UnaryLoad | CallLoad) for load in work.loads):
        import service.bench.call_load  # noqa: F401 - takes a while, so import it before the warm-up
    begins = now() + min(WARM_UP_SECONDS, work.seconds / 3)
    recorders = [Recorder(begins, work.seconds) for _ in work.loads]
    cpu_seconds = 0.0

    async def watch() -> None:
        nonlocal cpu_seconds
        await asyncio.sleep(begins - now())
        cpu_seconds = -time.process_time()
        send(Began())
        while (left := begins + work.seconds - now()) > 0:
            await asyncio.sleep(min(PROGRESS_SECONDS, left))
            send(Progress([recorder.events for recorder in recorders]))
        cpu_seconds += time.process_time()
        send(Ended())

    watching = asyncio.create_task(watch())
    try:
        async with asyncio.TaskGroup() as group:
            for load, recorder in zip(work.loads, recorders, strict=True):
                group.create_task(_run(load, recorder))
        if not any(isinstance(load, CopyLoad) and load.rows for load in work.loads):
            await watching  # the loads may be done a moment before it has sent the end
    except ExceptionGroup as failures:
        reason = _reason(failures)
        if reason is None:
            raise
        raise LoadError(reason) from None
    finally:
        watching.cancel()
    return Done([recorder.result() for recorder in recorders], cpu_seconds)


def _reason(error: Exception) -> str | None:
    """The reason why the load could not be made; None if it is an error of the program."""
    import grpc

    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, grpc.aio.AioRpcError):
        return f"the server answered with {error.code().name}: {error.details()}"
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    if isinstance(error, LoadError | OSError | psycopg.Error):
        return one_line(error)
    return None


async def _run(load: Load, recorder: Recorder) -> None:
    if isinstance(load, HttpLoad):
        await run_http(load, recorder)
    elif isinstance(load, CopyLoad | InsertLoad):
        stop = threading.Event()
        try:
            if isinstance(load, CopyLoad):
                await asyncio.to_thread(run_copy, load, recorder, stop)
            else:
                await asyncio.to_thread(run_insert, load, recorder, stop)
        finally:
            stop.set()
    elif isinstance(load, CallLoad):
        from service.bench.call_load import run_calls

        await run_calls(load, recorder)
    elif isinstance(load, UnaryLoad):
        from service.bench.unary_load import run_unary

        await run_unary(load, recorder)
    else:
        from service.bench.stream_load import run_streams

        await run_streams(load, recorder)


def _die_with_parent() -> None:
    """Send this process SIGTERM when the other end of standard input is closed."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Make the load, or serve, as the arguments say."""
    if sys.argv[1:2] == ["--bare"]:
        storage = msgspec.json.decode(sys.stdin.buffer.readline(), type=Storage)
        _die_with_parent()
        serve_bare(int(sys.argv[2]), int(sys.argv[3]), storage)
        return
    if sys.argv[1:2] == ["--serve"]:
        from service.cli.main import main as command

        _die_with_parent()
        sys.argv[1:2] = ["serve"]
        command()
        return
    work = msgspec.json.decode(sys.stdin.buffer.readline(), type=Work)
    _die_with_parent()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            send(runner.run(make(work)))
    except LoadError as error:
        send(Failed(str(error)))


if __name__ == "__main__":
    main()
