"""What the service is measured by: a bare FastAPI echo, and psycopg's binary COPY.

They tell what the machine gives when HTTP has nothing behind it, and when storage has nothing
before it.
"""

from __future__ import annotations

import threading
import time
from typing import Final
from uuid import UUID

import psycopg
from psycopg.types.json import Json, set_json_dumps

from core import ids
from core.database import session_conninfo
from core.rows import COPY_EVENTS
from core.timestamps import to_datetime
from service.bench import sample
from service.bench.load import CopyLoad
from service.bench.recorder import Recorder, now

TRANSACTION_ROWS: Final = 5_000
ECHO_PATH: Final = "/echo"
_TYPES: Final = ["uuid"] * 4 + ["text", "text", "timestamptz", "int4", "json"]


def serve_echo(port: int) -> None:
    """Answer requests with their own body until SIGINT or SIGTERM, as bare as FastAPI can be."""
    import uvicorn
    from fastapi import FastAPI, Request, Response

    app = FastAPI(openapi_url=None)

    # Named by their objects: FastAPI cannot look up the names of what is imported here.
    async def echo(request):  # type: ignore[no-untyped-def]
        return Response(await request.body(), media_type="application/json")

    echo.__annotations__ = {"request": Request, "return": Response}
    app.post(ECHO_PATH)(echo)
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
            bits = ids.ulid_bits(time.time_ns() // 1_000)
            with cursor.copy(COPY_EVENTS.encode()) as copy:
                copy.set_types(_TYPES)
                for number in range(count):
                    copy.write_row(
                        (
                            organization,
                            app,
                            UUID(int=bits + number),
                            workers[number % sample.PEOPLE],
                            sample.EVENT_TYPE,
                            sample.CATEGORY,
                            moments[number],
                            sample.DURATION_SECONDS,
                            Json(metadata[number]),
                        )
                    )
            db.commit()
            left = None if left is None else left - count
            recorder.answered(begun, count)
