"""What the service is measured by: bare FastAPI applications, and psycopg's binary COPY.

They tell what the machine gives when HTTP has nothing behind it, when storage has nothing before
it, and when each request pays for a transaction of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from msgspec import Struct
from psycopg.types.json import Json, set_json_dumps

from core import ids
from core.postgres.database import MAX_JOURNAL_CONNECTIONS
from core.postgres.sessions import session_conninfo
from core.timestamps import to_datetime
from service.bench import sample
from service.bench.load import CopyLoad
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
_TYPES: Final = ["uuid"] * 3 + ["text"] * 2 + ["uuid", "timestamptz", "int4", "json"]


class Place(Struct, frozen=True):
    """Where what comes to ``ALONE_PATH`` is stored."""

    conninfo: str
    organization_id: str
    app_id: str


class _Sent(Struct):
    events: list[dict[str, Any]]


_CLAIM: Final = """
INSERT INTO idempotency_keys (
    organization_id, key_id, endpoint, idempotency_key, digest, receipt, created_at)
VALUES (%(organization)s, %(app)s, 'events', %(key)s, %(digest)s, '{}', now())
ON CONFLICT DO NOTHING
"""
_CHARGE: Final = """
INSERT INTO quota_usage (organization_id, month, used, granted)
VALUES (%(organization)s, date_trunc('month', now()), 1, 1)
ON CONFLICT (organization_id, month) DO UPDATE SET used = quota_usage.used + 1
"""
_STORE: Final = """
INSERT INTO events (
    organization_id, app_id, id, worker_id,
    event_type, category, occurred_at, duration_seconds, metadata)
VALUES (
    %(organization)s, %(app)s, %(id)s, %(worker)s,
    %(type)s, %(category)s, %(moment)s, %(seconds)s, %(metadata)s)
"""


def serve_bare(port: int, place: Place) -> None:
    """Serve the HTTP yardsticks until SIGINT or SIGTERM, as bare as FastAPI can be.

    One answers requests with their own body. The other stores the one event of each in a
    transaction of its own, with its idempotency key and its charge, and judges nothing.
    """
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from psycopg_pool import AsyncConnectionPool

    # As the journal's, which commits for many requests at once.
    pool = AsyncConnectionPool(
        session_conninfo(place.conninfo),
        kwargs={"prepare_threshold": 1},
        min_size=MAX_JOURNAL_CONNECTIONS,
        max_size=MAX_JOURNAL_CONNECTIONS,
        open=False,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool:
            yield

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    organization, app_id = UUID(place.organization_id), UUID(place.app_id)
    worker = ids.new(time.time_ns() // 1_000)
    decode = msgspec.json.Decoder(_Sent).decode

    # Named by their objects: FastAPI cannot look up the names of what is imported here.
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
            for statement in (_CLAIM, _CHARGE, _STORE):
                await db.execute(statement, values)
        return Response(msgspec.json.encode({"accepted": 1}), 202, media_type="application/json")

    for path, answer in ((ECHO_PATH, echo), (ALONE_PATH, alone)):
        answer.__annotations__ = {"request": Request, "return": Response}
        app.post(path)(answer)
    uvicorn.run(app, port=port, http="httptools", loop="uvloop", access_log=False, log_config=None)


def run_copy(load: CopyLoad, recorder: Recorder, stop: threading.Event) -> None:
    """Write rows of the same events into the same table, in transactions of 5,000.

    Until the recorder's end, or until there are ``load.rows``, or until ``stop``.
    """
    organization, app = UUID(load.organization_id), UUID(load.app_id)
    workers = [ids.new(time.time_ns() // 1_000) for _ in range(sample.PEOPLE)]
    metadata = [sample.metadata(number) for number in range(TRANSACTION_ROWS)]
    moments = [to_datetime(sample.occurred_us(number)) for number in range(TRANSACTION_ROWS)]
    left = load.rows
    with psycopg.connect(session_conninfo(load.conninfo)) as db, db.cursor() as cursor:
        # The metadata is text already, as it is for the service: nothing is encoded twice.
        set_json_dumps(lambda text: text, db)
        while not stop.is_set() and (now() < recorder.ends if left is None else left > 0):
            count = TRANSACTION_ROWS if left is None else min(left, TRANSACTION_ROWS)
            begun = now()
            bits = ids.first_of_batch(time.time_ns() // 1_000).int
            with cursor.copy(_COPY) as copy:
                copy.set_types(_TYPES)
                for number in range(count):
                    copy.write_row(
                        (
                            organization,
                            app,
                            workers[number % sample.PEOPLE],
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
