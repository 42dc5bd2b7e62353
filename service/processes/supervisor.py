"""The supervisor: one process that keeps the database, the two ports and the server processes.

It serves nothing itself. It reserves the ports, opens the database and brings it up to date, makes
the demo key, and starts the server processes (service/processes/server_process.py). These share the
ports and open the database for themselves, so that it outlives the supervisor until they have
finished. A process that ends is replaced. However the supervisor ends, the kernel closes its ends
of the processes' lifelines, and they drain and end as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any, Final

from http_api.server import address, reserve
from service.metrics import FOLDER_VARIABLE
from service.postgres.open_database import open_database
from service.processes.shared_state import SharedState
from service.runtime import (
    Ready,
    bring_up_to_date,
    demo_key,
    host_and_port,
    http_url,
    max_stop_seconds,
    stop_signal,
)
from service.settings import Settings

log = logging.getLogger(__name__)

run = asyncio.run  # uvloop starts processes in ways of its own, and here is nothing to speed up

START_SECONDS: Final = 60.0
FIRST_PAUSE_SECONDS: Final = 0.1  # before a process is replaced; doubled each time, up to ...
MAX_PAUSE_SECONDS: Final = 10.0
STABLE_SECONDS: Final = 30.0  # a process that lived so long did not end for a fault of its start


class ProcessFailedError(Exception):
    """A server process cannot serve from the start; the message says why."""


class ProcessSlot:
    """A slot of the shared state: a server process and, when it ends, the next."""

    def __init__(self, number: int, shared_state: SharedState, environment: dict[str, str]) -> None:
        self._number = number
        self._shared_state = shared_state
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._reason = ""
        self.ready = asyncio.Event()  # from the first time on

    async def run(self) -> None:
        """Keep a process in the slot until :meth:`stop`, and until the last one has ended.

        Raises :class:`ProcessFailedError` if not even the first becomes ready.
        """
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = loop.time()
            try:
                how = await self._live()
            finally:
                self._shared_state.set_ready(self._number, False)
            if self._stopping.is_set():
                return
            if not self.ready.is_set():
                raise ProcessFailedError(
                    self._reason or f"a server process {how} before it was ready"
                )
            self._shared_state.count_restart(self._number)
            if loop.time() - began >= STABLE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            reason = f": {self._reason}" if self._reason else ""
            log.error(
                "server process %d %s%s; the next one starts in %.1f s",
                self._number,
                how,
                reason,
                pause,
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def stop(self) -> None:
        """Have the process finish its requests; :meth:`run` ends after it."""
        self._stopping.set()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _live(self) -> str:
        """One process from its start to its end; returns how it ended."""
        self._reason = ""
        descriptor = self._shared_state.descriptor
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # no module comes from the folder we happen to be in
            "-m",
            "service.processes.server_process",
            *map(str, (self._number, self._shared_state.size, descriptor)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            pass_fds=(descriptor,),
            start_new_session=True,  # Ctrl-C in the terminal is for the supervisor
        )
        try:
            if self._stopping.is_set():
                self.stop()
            await self._hear(process)
            await process.wait()
        except asyncio.CancelledError:
            self.kill()
            await process.wait()
            raise
        status = process.returncode or 0
        if status < 0:
            return f"(process {process.pid}) was ended by a signal: {signal.strsignal(-status)}"
        return f"(process {process.pid}) ended with status {status}"

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            self._reason = f"it was not ready within {START_SECONDS:.0f} s"
            self.kill()
            return
        if not line.endswith(b"\n"):
            return
        word, self._reason = json.loads(line)
        if word == "ready" and not self._stopping.is_set():
            log.info("server process %d is ready, process id %d", self._number, process.pid)
            self._shared_state.set_ready(self._number, True)
            self.ready.set()


async def serve(
    settings: Settings,
    *,
    demo: bool,
    on_ready: Callable[[Ready], None],
    progress: Callable[[str], None],
) -> None:
    """Serve with ``settings.workers`` processes until SIGINT or SIGTERM; a second one ends all.

    Raises as ``compose.serve`` does, and :class:`ProcessFailedError`.
    """
    with contextlib.ExitStack() as stack:
        http, grpc = (
            stack.enter_context(reserve(*host_and_port(given)))
            for given in (settings.http, settings.grpc)
        )
        async with open_database(settings, progress) as conninfo:
            await bring_up_to_date(conninfo)
            shown = await demo_key(settings, conninfo) if demo else None
            descriptor = SharedState.share(settings.workers)
            stack.callback(os.close, descriptor)
            shared_state = SharedState(settings.workers, descriptor)
            environment = {
                **os.environ,
                FOLDER_VARIABLE: stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="wepeople-ingest-metrics-")
                ),
                "WEPEOPLE_HTTP": _with_port(settings.http, http),
                "WEPEOPLE_GRPC": _with_port(settings.grpc, grpc),
                "WEPEOPLE_WORKERS": "1",
            }
            slots = [
                ProcessSlot(number, shared_state, environment)
                for number in range(shared_state.size)
            ]
            ready = Ready(http_url(*address(http)), _with_port(settings.grpc, grpc), shown)
            await _keep(slots, shared_state, lambda: on_ready(ready), settings.drain_seconds)
    log.info("stopped")


def _with_port(given: str, holder: socket.socket) -> str:
    return f"{given.rpartition(':')[0]}:{address(holder)[1]}"


async def _keep(
    slots: list[ProcessSlot],
    shared_state: SharedState,
    on_ready: Callable[[], None],
    drain_seconds: float,
) -> None:
    """Run the slots until a signal to stop, or until one fails at its start."""

    def kill() -> None:
        for slot in slots:
            slot.kill()

    running = [asyncio.create_task(slot.run()) for slot in slots]
    started = asyncio.gather(*(slot.ready.wait() for slot in slots))
    try:
        first: list[asyncio.Future[Any]] = [started, *running]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            _raise_first(running)
        stop = stop_signal(kill)
        shared_state.start()
        on_ready()
        await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping: finishing what was begun")
    finally:
        started.cancel()
        shared_state.drain()
        for slot in slots:
            slot.stop()
        _, late = await asyncio.wait(running, timeout=max_stop_seconds(drain_seconds))
        if late:
            log.error("%d server processes did not stop in time and are killed", len(late))
            kill()
            await asyncio.wait(late)
    _raise_first(running)


def _raise_first(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
