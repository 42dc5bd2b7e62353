"""The yardsticks that the service is compared with: bare FastAPI and gRPC, and psycopg's COPY.

They show the machine's speed for either protocol without storage, for storage without a protocol,
for requests that each commit a transaction of their own, and for such a transaction alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from msgspec import Struct
from psycopg.types.json import Json, set_json_dumps
from psycopg_pool import AsyncConnectionPool

from core import ids
from core.postgres.node import MAX_JOURNAL_CONNECTIONS
from core.postgres.search_path import use_schema
from core.postgres.sessions import Connection, configure, session_conninfo
from core.timestamps import to_datetime
from service.bench import sample
from service.bench.load import CopyLoad, InsertLoad, Storage
from service.bench.recorder import Recorder, now

TRANSACTION_ROWS: Final = 5_000
ECHO_PATH: Final = "/echo"
ALONE_PATH: Final = "/alone"
_COPY: Final = """
COPY events (
    organization_id, app_id, worker_id,
    event_type, category, id, occurred_at, duration_seconds, metadata)
FROM STDIN (FORMAT binary)
"""
_USE_SCHEMA: Final = "SELECT set_config('search_path', %s, false)"
_TYPES: Final = ["uuid"] * 3 + ["text"] * 2 + ["uuid", "timestamptz", "int4", "json"]


class _Body(Struct):
    events: list[dict[str, Any]]


_INSERT_KEY: Final = """
INSERT INTO idempotency_keys (
    organization_id, key_id, endpoint, idempotency_key, digest, receipt, created_at)
VALUES (%(organization)s, %(app)s, 'events', %(key)s, %(digest)s, '{}', now())
ON CONFLICT DO NOTHING
"""
_CHARGE_QUOTA: Final = """
INSERT INTO quota_usage (organization_id, month, used, granted)
VALUES (%(organization)s, date_trunc('month', now()), 1, 1)
ON CONFLICT (organization_id, month) DO UPDATE SET used = quota_usage.used + 1
"""
_INSERT_EVENT: Final = """
INSERT INTO events (
    organization_id, app_id, id, worker_id,
    event_type, category, occurred_at, duration_seconds, metadata)
VALUES (
    %(organization)s, %(app)s, %(id)s, %(worker)s,
    %(type)s, %(category)s, %(moment)s, %(seconds)s, %(metadata)s)
"""


def serve_bare(http_port: int, grpc_port: int, storage: Storage) -> None:
    """Serve the yardsticks until SIGINT or SIGTERM, as bare as FastAPI and grpc.aio can be.

    Over HTTP, one answers requests with their own body. The other stores the one event of each in a
    transaction of its own, with its idempotency key and its charge, and judges nothing. Over gRPC,
    calls are answered as if their events were stored.
    """
    import uvicorn
    from fastapi import FastAPI, Request, Response

    pool = _pool(storage)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool, _bare_grpc(grpc_port):
            yield

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    organization, app_id = UUID(storage.organization_id), UUID(storage.app_id)
    worker = ids.new(time.time_ns() // 1_000)
    decode = msgspec.json.Decoder(_Body).decode

    # Annotated below: FastAPI cannot look up names that are imported within this function.
    async def echo(request):  # type: ignore[no-untyped-def]
        return Response(await request.body(), media_type="application/json")

    async def alone(request):  # type: ignore[no-untyped-def]
        body = await request.body()
        [event] = decode(body).events
        values = {
            "organization": organization,
            "app": app_id,
            "key": request.headers["idempotency-key"],
            "digest": hashlib.sha256(body).digest(),
            "id": ids.new(time.time_ns() // 1_000),
            "worker": worker,
            "type": event["eventType"],
            "category": event["category"],
            "moment": event["timestamp"],
            "seconds": event["duration"],
            "metadata": msgspec.json.encode(event["metadata"]).decode(),
        }
        async with pool.connection() as db:
            for statement in (_INSERT_KEY, _CHARGE_QUOTA, _INSERT_EVENT):
                await db.execute(statement, values)
        return Response(msgspec.json.encode({"accepted": 1}), 202, media_type="application/json")

    for path, answer in ((ECHO_PATH, echo), (ALONE_PATH, alone)):
        answer.__annotations__ = {"request": Request, "return": Response}
        app.post(path)(answer)
    uvicorn.run(
        app, port=http_port, http="httptools", loop="uvloop", access_log=False, log_config=None
    )


def _pool(storage: Storage) -> AsyncConnectionPool[Connection]:
    """As many connections as the journal has, which commits many requests in one transaction."""
    return AsyncConnectionPool(
        session_conninfo(storage.conninfo),
        kwargs={"prepare_threshold": 1},
        configure=partial(_configure, storage.schema),
        min_size=MAX_JOURNAL_CONNECTIONS,
        max_size=MAX_JOURNAL_CONNECTIONS,
        open=False,
    )


@contextlib.asynccontextmanager
async def _bare_grpc(port: int) -> AsyncIterator[None]:
    """A server of IngestEvents that reads each call and answers it, and does nothing else."""
    import grpc

    from grpc_api.pb import ingest_pb2 as pb

    async def answer(request: pb.IngestEventsRequest, _: object) -> pb.IngestEventsResponse:
        return pb.IngestEventsResponse(
            accepted=[
                pb.AcceptedEvent(event_type=event.event_type, timestamp=event.timestamp)
                for event in request.events
            ]
        )

    handler = grpc.unary_unary_rpc_method_handler(
        answer, pb.IngestEventsRequest.FromString, pb.IngestEventsResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_registered_method_handlers(
        pb.DESCRIPTOR.services_by_name["IngestService"].full_name, {"IngestEvents": handler}
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


async def _configure(schema: str | None, db: Connection) -> None:
    await configure(db)
    await use_schema(db, schema)
    await db.commit()


def run_copy(load: CopyLoad, recorder: Recorder, stop: threading.Event) -> None:
    """Write rows of the same events into the same table, in transactions of 5,000 rows.

    It ends at the recorder's end, after ``load.rows`` rows if that is set, or when ``stop`` is set.
    """
    organization, app = UUID(load.storage.organization_id), UUID(load.storage.app_id)
    workers = [ids.new(time.time_ns() // 1_000) for _ in range(sample.WORKERS)]
    metadata = [sample.metadata(number) for number in range(TRANSACTION_ROWS)]
    moments = [to_datetime(sample.occurred_us(number)) for number in range(TRANSACTION_ROWS)]
    left = load.rows
    with _session(load.storage) as db, db.cursor() as cursor:
        # The metadata is text already, as it is for the service: nothing is encoded twice.
        set_json_dumps(lambda text: text, db)
        db.autocommit = False
        while not stop.is_set() and (now() < recorder.ends if left is None else left > 0):
            count = TRANSACTION_ROWS if left is None else min(left, TRANSACTION_ROWS)
            begun = now()
            bits = ids.first_of_batch(time.time_ns() // 1_000)
            with cursor.copy(_COPY) as copy:
                copy.set_types(_TYPES)
                for number in range(count):
                    copy.write_row(
                        (
                            organization,
                            app,
                            workers[number % sample.WORKERS],
                            sample.EVENT_TYPE,
                            sample.CATEGORY,
                            UUID(int=bits + number),
                            moments[number],
                            sample.DURATION_SECONDS,
                            Json(metadata[number]),
                        )
                    )
            db.commit()
            left = None if left is None else left - count
            recorder.answered(begun, count)


def run_insert(load: InsertLoad, recorder: Recorder, stop: threading.Event) -> None:
    """Write the rows of single events into the same table, each in a transaction of its own.

    It ends at the recorder's end, or when ``stop`` is set.
    """
    values = {
        "organization": UUID(load.storage.organization_id),
        "app": UUID(load.storage.app_id),
        "worker": ids.new(time.time_ns() // 1_000),
        "type": sample.EVENT_TYPE,
        "category": sample.CATEGORY,
        "moment": to_datetime(sample.occurred_us(0)),
        "seconds": sample.DURATION_SECONDS,
        "metadata": sample.metadata(0),
    }
    with _session(load.storage) as db:
        due = now()
        while due < recorder.ends:
            if stop.wait(max(due - now(), 0)):
                break
            values["id"] = ids.new(time.time_ns() // 1_000)
            begun = now()
            db.execute(_INSERT_EVENT, values, prepare=True)
            recorder.answered(begun, 1)
            due = max(due + 1 / load.rate, now())


def _session(storage: Storage) -> psycopg.Connection[Any]:
    """A session with the tables of the storage, in autocommit mode; its commits are durable."""
    db = psycopg.connect(session_conninfo(storage.conninfo), autocommit=True)
    db.execute("SET synchronous_commit = on")
    if storage.schema is not None:
        db.execute(_USE_SCHEMA, (storage.schema,))
    return db
