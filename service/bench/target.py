"""The service under load: a new one with a throw-away database, or one that runs already."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import psutil

from core.postgres.database import Database
from core.postgres.sessions import Connection, forget_libpq_variables
from service.bench.load import Storage
from service.bench.resources import Processes, listening, of_pid, postgres_of
from service.postgres.embedded import EmbeddedPostgres
from service.postgres.open_database import open_database
from service.settings import Settings
from service.tls import is_local

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
DATABASE_STOP_SECONDS: Final = 15.0
PAUSE_SECONDS: Final = 0.1
STATEMENT_SECONDS: Final = 600  # removing all events of a run may take long
GENERATOR: Final = (sys.executable, "-m", "service.bench.generator")
# Settings of another service's addresses, database and clients, which a new service must not get.
NOT_INHERITED: Final = (
    "DATABASE_URL",
    "WEPEOPLE_HTTP",
    "WEPEOPLE_GRPC",
    "WEPEOPLE_PUBLIC_URL",
    "WEPEOPLE_KEY_SECRET",
    "WEPEOPLE_KEY_SECRET_PREVIOUS",
    "WEPEOPLE_GRPC_TLS_CERTIFICATE",
    "WEPEOPLE_GRPC_TLS_KEY",
    "WEPEOPLE_GRPC_TLS_CLIENT_CA",
    "WEPEOPLE_EVENT_RETENTION_MONTHS",
)


class BenchError(Exception):
    """The measurement cannot be made; the message says why."""


@dataclass(frozen=True)
class Target:
    """A service to measure. ``http``: a URL; ``grpc``: HOST:PORT; None if it is not given.

    ``own``: whether it was started for the run. ``db``: a connection to its database, in autocommit
    mode. ``service`` and ``database``: their processes, as far as they can be seen.
    """

    own: bool
    http: str | None
    grpc: str | None
    tls: bool
    settings: Settings
    db: Connection
    conninfo: str
    service: Processes
    database: Processes


@contextlib.asynccontextmanager
async def started(arguments: Sequence[str]) -> AsyncIterator[Target]:
    """A new service on a new embedded database; nothing of it is left after the block.

    ``arguments``: more options for ``serve``. Raises BenchError if it does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="wepeople-bench-"))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_remove_folder, folder)
        database = Processes([])
        stack.push_async_callback(lambda: _wait_for_end(database))
        settings = Settings.from_environment({"WEPEOPLE_DATA_DIR": os.fspath(folder / "data")})
        forget_libpq_variables()
        embedded = EmbeddedPostgres(settings.data_dir)
        acquiring = asyncio.ensure_future(asyncio.to_thread(embedded.acquire))

        async def give_back() -> None:
            # Even one acquired after an interruption: a thread cannot be cancelled.
            (await acquiring).close()

        stack.push_async_callback(give_back)
        conninfo = (await asyncio.shield(acquiring)).conninfo
        log = folder / "serve.log"
        command = [*GENERATOR, "--serve", "--json"]
        command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *arguments]
        environment = {
            **{name: value for name, value in os.environ.items() if name not in NOT_INHERITED},
            "WEPEOPLE_DATA_DIR": os.fspath(settings.data_dir),
            "WEPEOPLE_LOG_LEVEL": "warning",
        }
        process = await stack.enter_async_context(child(command, environment, log))
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            raise BenchError(f"the service does not start: {_end_of(log)}")
        ready = json.loads(line)
        db = await stack.enter_async_context(await _connect(conninfo))
        database.roots += postgres_of(db.info).roots
        service = of_pid(process.pid)
        yield Target(
            True, ready["http"], ready["grpc"], False, settings, db, conninfo, service, database
        )


@contextlib.asynccontextmanager
async def running(servers: Sequence[str], *, insecure: bool) -> AsyncIterator[Target]:
    """A running service at these addresses, on the database that the settings name."""
    http = next((given for given in servers if "://" in given), None)
    grpc = next((given for given in servers if "://" not in given), None)
    settings = Settings.from_environment(os.environ)
    service = Processes([])
    tls = False
    if http is not None:
        parts = urlsplit(http)
        assert parts.hostname is not None
        standard = 443 if parts.scheme == "https" else 80
        service = listening(parts.hostname, parts.port or standard)
    if grpc is not None:
        host, _, port = grpc.rpartition(":")
        tls = not (insecure or is_local(host))
        known = {process.pid for process in service.roots}
        more = listening(host, int(port)).roots
        service = Processes(service.roots + [one for one in more if one.pid not in known])
    async with open_database(settings) as conninfo, await _connect(conninfo) as db:
        yield Target(False, http, grpc, tls, settings, db, conninfo, service, postgres_of(db.info))


async def _connect(conninfo: str) -> Connection:
    db = await Database(conninfo).dedicated("wepeople-ingest bench")
    await db.execute(f"SET statement_timeout = '{STATEMENT_SECONDS}s'")
    return db


@dataclass(frozen=True)
class Bare:
    """The yardsticks that are served. ``http``: a URL; ``grpc``: HOST:PORT."""

    http: str
    grpc: str
    processes: Processes


@contextlib.asynccontextmanager
async def bare(storage: Storage) -> AsyncIterator[Bare]:
    """The yardsticks, served by a process of their own."""
    with socket.socket() as http_probe, socket.socket() as grpc_probe:
        ports = []
        for probe in (http_probe, grpc_probe):
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    async with child([*GENERATOR, "--bare", *map(str, ports)]) as process:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(storage) + b"\n")
        await process.stdin.drain()
        http_port, grpc_port = ports
        await _wait_until_listening(http_port)  # gRPC is served before
        yield Bare(f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}", of_pid(process.pid))


async def _wait_until_listening(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(PAUSE_SECONDS)
    raise BenchError("the yardsticks do not start")


@contextlib.asynccontextmanager
async def child(
    command: Sequence[str], environment: Mapping[str, str] | None = None, log: Path | None = None
) -> AsyncIterator[Process]:
    """A process that ends with the block, in order if it can.

    It has a session of its own, so that a Ctrl-C in the terminal reaches this process alone. It
    ends when its standard input does, and so also if this process is killed.
    """
    errors = None if log is None else log.open("ab")
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
    finally:
        if errors is not None:
            errors.close()
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _wait_for_end(processes: Processes) -> None:
    await asyncio.to_thread(psutil.wait_procs, processes.roots, timeout=DATABASE_STOP_SECONDS)


async def _remove_folder(folder: Path) -> None:
    """Remove the folder, and again while a process that is stopping makes files in it."""

    def remove() -> None:
        deadline = time.monotonic() + DATABASE_STOP_SECONDS
        while folder.exists():
            shutil.rmtree(folder, ignore_errors=time.monotonic() < deadline)
            time.sleep(PAUSE_SECONDS)

    await asyncio.to_thread(remove)


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"
