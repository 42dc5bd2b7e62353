"""`make bench`: requests and events per second beside two yardsticks of the same run.

The yardsticks: a bare FastAPI application that echoes the same body under the same server
settings, and psycopg's binary COPY of the same rows into the same table. Figures of one machine
mean little; ratios within one run mean more, so every round measures all of them in turn and the
medians are compared. Everything runs on this machine, durable settings, and ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

import grpc
import psycopg
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response
from google.protobuf.timestamp_pb2 import Timestamp
from psycopg.types.json import Json, set_json_dumps

from core import ids
from core.limits import MAX_BATCH_EVENTS
from core.rows import COPY_EVENTS
from core.timestamps import to_datetime
from grpc_api.pb import ingest_pb2 as pb
from grpc_api.pb.ingest_pb2_grpc import IngestServiceStub
from service.embedded_postgres import EmbeddedPostgres
from tests.tenant import FAST, now_us

COPY_TRANSACTION_ROWS: Final = 5_000
WORKERS: Final = 200
START_SECONDS: Final = 60


def make_event(number: int) -> dict[str, Any]:
    """A typical event: seven members, three of them metadata."""
    return {
        "eventType": "ticket.resolved",
        "category": "project_management",
        "actor": {"externalId": f"crm-user-{number % WORKERS}"},
        "timestamp": "2026-04-19T12:05:00Z",
        "duration": 240,
        "metadata": {"ticket_id": f"SUP-{number}", "priority": "high", "score": 4.5},
    }


# --- the load --------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """Sends one prepared request again and again, each when the last one was answered."""

    def __init__(self, request: bytes, load: Load) -> None:
        self._request = request
        self._load = load
        self._received = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._begun = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        status = int(head[9:12])
        if status not in (200, 202):
            self._transport.close()
            self.done.set_exception(RuntimeError(f"status {status}: {body[:300]!r}"))
            return
        self._received = b""
        now = time.perf_counter()
        self._load.note(now, now - self._begun)
        if now < self._load.ends:
            self._send()
        else:
            self._transport.close()
            self.done.set_result(None)


@dataclass
class Load:
    """Requests of one measurement; those of the warm-up are not counted."""

    begins: float
    ends: float
    seconds: list[float] = field(default_factory=list)

    def note(self, now: float, took: float) -> None:
        """Count an answer."""
        if self.begins <= now <= self.ends:
            self.seconds.append(took)


async def _load(port: int, request: bytes, connections: int, seconds: float) -> Load:
    warm_up = min(1.0, seconds / 3)
    load = Load(time.perf_counter() + warm_up, time.perf_counter() + warm_up + seconds)
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: _Connection(request, load), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in opened))
    return load


def _measure(port: int, request: bytes, connections: int, seconds: float) -> dict[str, float]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return _figures(runner.run(_load(port, request, connections, seconds)), seconds)


def _figures(load: Load, seconds: float) -> dict[str, float]:
    ordered = sorted(load.seconds)
    return {
        "per_second": len(ordered) / seconds,
        "p50_ms": ordered[len(ordered) // 2] * 1_000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1_000,
    }


def _request(path: str, body: bytes, key: str) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def _stream(target: str, key: str, seconds: float) -> Load:
    """One producer's stream of full batches, as many in flight as the server takes."""
    members = [
        pb.IngestEvent(
            event_type=event["eventType"],
            category=event["category"],
            actor=pb.Actor(external_id=event["actor"]["externalId"]),
            timestamp=Timestamp(seconds=1_776_600_300),
            duration_seconds=event["duration"],
            metadata_json=json.dumps(event["metadata"]).encode(),
        )
        for event in map(make_event, range(MAX_BATCH_EVENTS))
    ]
    async with grpc.aio.insecure_channel(target) as channel:
        metadata = (("authorization", f"Bearer {key}"),)
        call = IngestServiceStub(channel).StreamEvents(metadata=metadata)
        opening = pb.StreamOpen(producer_id=f"bench-{time.time_ns()}")
        await call.write(pb.StreamEventsRequest(open=opening))
        opened = cast(pb.StreamEventsResponse, await call.read()).opened
        warm_up = min(1.0, seconds / 3)
        load = Load(time.perf_counter() + warm_up, time.perf_counter() + warm_up + seconds)
        room = asyncio.Semaphore(opened.max_in_flight)
        sent: deque[float] = deque()

        async def send() -> None:
            batch = pb.StreamBatch(events=members)
            while time.perf_counter() < load.ends:
                await room.acquire()
                batch.sequence += 1
                sent.append(time.perf_counter())
                await call.write(pb.StreamEventsRequest(batch=batch))
            await call.done_writing()

        sending = asyncio.create_task(send())
        while isinstance(response := await call.read(), pb.StreamEventsResponse):
            assert response.ack.accepted == MAX_BATCH_EVENTS
            now = time.perf_counter()
            load.note(now, now - sent.popleft())
            room.release()
        await sending
        return load


def _measure_stream(target: str, key: str, seconds: float) -> dict[str, float]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return _figures(runner.run(_stream(target, key, seconds)), seconds)


# --- what is measured ------------------------------------------------------------------------


def echo(port: int) -> None:
    """The yardstick of HTTP: what FastAPI and uvicorn cost with nothing behind them."""
    app = FastAPI(openapi_url=None)

    @app.post("/echo")
    async def _(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    uvicorn.run(app, port=port, http="httptools", loop="uvloop", access_log=False, log_config=None)


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            asyncio.run(_probe(port))
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


async def _probe(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


def _cli(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "service.cli", *arguments, "--json"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _copy(conninfo: str, organization: UUID, app: UUID, seconds: float) -> dict[str, float]:
    """The yardstick of storage: psycopg writes rows of the same events, in large transactions."""
    workers = [ids.new(now_us()) for _ in range(WORKERS)]
    events = [make_event(number) for number in range(COPY_TRANSACTION_ROWS)]
    metadata = [json.dumps(event["metadata"]) for event in events]
    moment = to_datetime(now_us())
    types = ["uuid"] * 4 + ["text", "text", "timestamptz", "int4", "json"]
    rows, begin = 0, time.perf_counter()
    with psycopg.connect(conninfo) as db, db.cursor() as cursor:
        # The metadata is text already, as it is for the service: nothing is encoded twice.
        set_json_dumps(lambda text: text, db)
        while time.perf_counter() - begin < seconds:
            bits = ids.ulid_bits(now_us())
            with cursor.copy(COPY_EVENTS.encode()) as copy:
                copy.set_types(types)
                for number, event in enumerate(events):
                    copy.write_row(
                        (
                            organization,
                            app,
                            UUID(int=bits + number),
                            workers[number % WORKERS],
                            event["eventType"],
                            event["category"],
                            moment,
                            event["duration"],
                            Json(metadata[number]),
                        )
                    )
            db.commit()
            rows += len(events)
        return {"per_second": rows / (time.perf_counter() - begin)}


# --- the run ---------------------------------------------------------------------------------


def main() -> None:
    """Measure, print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--echo", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        echo(options.echo)
        return
    folder = Path(tempfile.mkdtemp(prefix="wepeople-bench-"))
    try:
        results = _run(folder, options.seconds, options.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        _print(results)


def _run(folder: Path, seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    environment = {"WEPEOPLE_DATA_DIR": str(folder), "WEPEOPLE_LOG_LEVEL": "warning"}
    large = json.dumps({"events": [make_event(number) for number in range(500)]}).encode()
    small = json.dumps({"events": [make_event(1)]}).encode()
    with ExitStack() as stack:
        serve = [sys.executable, "-m", "service.cli", "serve", "--json"]
        serve += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
        server = stack.enter_context(_process(serve, environment))
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        port = int(ready["http"].rpartition(":")[2])
        rate = str(FAST)
        organization = _cli(environment, "org", "create", "Bench", "--rate", rate)
        app = _cli(
            *(environment, "app", "create", "Bench", "bench"),
            *("--name", "Bench", "--allow", "ticket.resolved"),
        )
        key = _cli(environment, "key", "create", app["id"], "--rate", rate)["key"]
        echo_port = _free_port()
        stack.enter_context(
            _process([sys.executable, "-m", "tests.bench", "--echo", str(echo_port)], {})
        )
        _wait_for(echo_port)
        lease = stack.enter_context(EmbeddedPostgres(folder).acquire())
        organization_id = ids.parse(ids.ORGANIZATION, organization["id"])
        app_id = ids.parse(ids.APP, app["id"])
        assert organization_id is not None
        assert app_id is not None

        def events(body: bytes) -> bytes:
            return _request("/api/v1/ingest/events", body, key)

        measurements: dict[str, Callable[[], dict[str, float]]] = {
            "stream": lambda: _measure_stream(ready["grpc"], key, seconds),
            "copy": lambda: _copy(lease.conninfo, organization_id, app_id, seconds),
            "http_500": lambda: _measure(port, events(large), 8, seconds),
            "echo_500": lambda: _measure(echo_port, _request("/echo", large, key), 8, seconds),
            "http_1": lambda: _measure(port, events(small), 64, seconds),
            "echo_1": lambda: _measure(echo_port, _request("/echo", small, key), 64, seconds),
        }
        collected: dict[str, list[dict[str, float]]] = {name: [] for name in measurements}
        for number in range(rounds):
            for name, measure in measurements.items():
                print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
                collected[name].append(measure())
    return {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for name, found in collected.items()
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _print(results: dict[str, dict[str, float]]) -> None:
    copy, echo_large, echo_small = (
        results[name]["per_second"] for name in ("copy", "echo_500", "echo_1")
    )
    large, small, stream = results["http_500"], results["http_1"], results["stream"]
    print(f"{'psycopg binary COPY, 5,000 rows a transaction':50}{copy:12,.0f} events/s")
    streamed = stream["per_second"] * MAX_BATCH_EVENTS
    print(
        f"{'gRPC stream, 500 events a batch, one producer':50}{streamed:12,.0f}"
        f" events/s  = {streamed / copy:.2f} of COPY; "
        f"p50 {stream['p50_ms']:.1f} ms, p99 {stream['p99_ms']:.1f} ms"
    )
    print(
        f"{'HTTP, 500 events a request, 8 connections':50}{large['per_second'] * 500:12,.0f}"
        f" events/s  = {large['per_second'] * 500 / copy:.2f} of COPY"
    )
    print(
        f"{'':50}{large['per_second']:12,.0f} requests/s = "
        f"{large['per_second'] / echo_large:.2f} of echo ({echo_large:,.0f}); "
        f"p50 {large['p50_ms']:.1f} ms, p99 {large['p99_ms']:.1f} ms"
    )
    print(
        f"{'HTTP, 1 event a request, 64 connections':50}{small['per_second']:12,.0f}"
        f" requests/s = {small['per_second'] / echo_small:.2f} of echo ({echo_small:,.0f}); "
        f"p50 {small['p50_ms']:.1f} ms, p99 {small['p99_ms']:.1f} ms"
    )


if __name__ == "__main__":
    main()
