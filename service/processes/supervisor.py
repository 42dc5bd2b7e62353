"""The supervisor: it starts the server processes, and replaces those that end.

It serves nothing itself. In this order it reserves the two ports, opens and migrates the database,
makes the demo key, allocates the shared state and starts a server process in each process slot
(service/processes/server_process.py). The server processes share the ports. They open the database
themselves, so that an embedded one outlives the supervisor until they have finished. However the
supervisor ends, the kernel closes its ends of the lifelines, and the server processes finish and
end.
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
from functools import partial
from typing import Any, Final

from core.descriptors import raise_descriptor_limit
from http_api.listeners import address, reserve
from service.hangup import Hangup
from service.metrics import FOLDER_VARIABLE
from service.postgres.open_database import open_database
from service.processes.shared_state import SharedState
from service.runtime import (
    DEMO_KEY_VARIABLE,
    Ready,
    bring_up_to_date,
    client_address,
    http_url,
    make_demo,
    max_stop_seconds,
    stop_signal,
)
from service.settings import Settings, host_and_port

log = logging.getLogger(__name__)

run = asyncio.run  # not uvloop, whose subprocesses differ, and nothing here needs its speed

START_SECONDS: Final = 60.0
# A process that served for so long is replaced at once: its end says nothing about its start.
SETTLED_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 0.1  # before another is replaced; doubled each time, up to ...
MAX_PAUSE_SECONDS: Final = 10.0


class ProcessFailedError(Exception):
    """A server process cannot serve from the start; the message says why."""


class ProcessSlot:
    """A process slot of the shared state: it holds one server process after another."""

    def __init__(self, number: int, shared_state: SharedState, environment: dict[str, str]) -> None:
        self._number = number
        self._shared_state = shared_state
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._reason = ""
        self._ready_at: float | None = None  # of the process that runs, in the loop's time
        self.ready = asyncio.Event()  # from the first time on

    async def run(self) -> None:
        """Keep a process in the slot until :meth:`stop`, and return when the last one has ended.

        Raises :class:`ProcessFailedError` if the first process does not become ready.
        """
        loop = asyncio.get_running_loop()
        pause = 0.0
        while not self._stopping.is_set():
            try:
                how = await self._run_process()
            finally:
                self._shared_state.set_ready(self._number, False)
            if self._stopping.is_set():
                return
            if not self.ready.is_set():
                raise ProcessFailedError(
                    self._reason or f"a server process {how} before it was ready"
                )
            self._shared_state.count_restart(self._number)
            served = self._ready_at is not None and loop.time() - self._ready_at >= SETTLED_SECONDS
            pause = 0.0 if served else min(max(2 * pause, FIRST_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
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

    def stop(self) -> None:
        """Have the process finish its requests; :meth:`run` ends after it."""
        self._stopping.set()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def reload(self) -> None:
        """Have the process read the TLS files again; one that is not ready has just read them."""
        if self._process is not None and self._ready_at is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _run_process(self) -> str:
        """Run one process from its start to its end; returns how it ended."""
        self._reason, self._ready_at = "", None
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
        self._shared_state.set_process_id(self._number, process.pid)
        try:
            if self._stopping.is_set():
                self.stop()
            await self._wait_until_ready(process)
            await process.wait()
        except asyncio.CancelledError:
            self.kill()
            await process.wait()
            raise
        status = process.returncode or 0
        if status < 0:
            return f"(process {process.pid}) was ended by a signal: {signal.strsignal(-status)}"
        return f"(process {process.pid}) ended with status {status}"

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> None:
        """Wait for the process's report; kill the process if there is none in time."""
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
            self._ready_at = asyncio.get_running_loop().time()
            self.ready.set()


async def serve(
    settings: Settings,
    *,
    server_processes: int,
    demo: bool,
    hangup: Hangup,
    on_ready: Callable[[Ready], None],
    progress: Callable[[str], None],
) -> None:
    """Serve with so many processes until SIGINT or SIGTERM.

    A second signal ends all of them at once. SIGHUP is passed on to all of them; it is the end when
    the terminal is gone.

    Raises as ``compose.serve`` does, and :class:`ProcessFailedError`.
    """
    raise_descriptor_limit()
    with contextlib.ExitStack() as stack:
        http, grpc = (
            stack.enter_context(reserve(*host_and_port(given)))
            for given in (settings.http, settings.grpc)
        )
        hangup.use_loop()
        async with open_database(settings, progress) as conninfo:
            await bring_up_to_date(conninfo)
            shown = await make_demo(settings, conninfo) if demo else None
            descriptor = SharedState.share(server_processes)
            stack.callback(os.close, descriptor)
            shared_state = SharedState(server_processes, descriptor)
            environment = {
                **os.environ,
                FOLDER_VARIABLE: stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="wepeople-ingest-metrics-")
                ),
                "WEPEOPLE_HTTP": _with_port(settings.http, http),
                "WEPEOPLE_GRPC": _with_port(settings.grpc, grpc),
                "WEPEOPLE_WORKERS": "1",
            }
            if shown is not None and shown.key is not None:
                environment[DEMO_KEY_VARIABLE] = shown.key
            slots = [
                ProcessSlot(number, shared_state, environment)
                for number in range(shared_state.size)
            ]
            grpc_address = client_address(host_and_port(settings.grpc)[0], address(grpc)[1])
            url = http_url(*address(http), has_tls=settings.http_tls_certificate is not None)
            ready = Ready(url, grpc_address, shown)
            hangup.reload = partial(_reload, slots)
            await _supervise(slots, shared_state, lambda: on_ready(ready), settings)
    log.info("stopped")


def _with_port(given: str, holder: socket.socket) -> str:
    return f"{given.rpartition(':')[0]}:{address(holder)[1]}"


def _reload(slots: list[ProcessSlot]) -> None:
    for slot in slots:
        slot.reload()


async def _supervise(
    slots: list[ProcessSlot],
    shared_state: SharedState,
    on_ready: Callable[[], None],
    settings: Settings,
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
        await asyncio.gather(started, return_exceptions=True)  # nobody else asks for its end
        shared_state.drain()
        for slot in slots:
            slot.stop()
        _, late = await asyncio.wait(running, timeout=max_stop_seconds(settings))
        if late:
            log.error("%d server processes did not stop in time and are killed", len(late))
            kill()
            await asyncio.wait(late)
    _raise_first(running)


def _raise_first(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
