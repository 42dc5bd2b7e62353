"""A stream of numbered events on a service that is hurt meanwhile, and what is stored of it."""

from __future__ import annotations

import asyncio
from collections import Counter

import psycopg
from psycopg import sql

from tests.support.batch_load import KeyHolder
from tests.support.tenant import event
from wepeople_ingest_client import StreamProducer

STREAMED_WORKERS = 5
_COUNT = sql.SQL("SELECT {0}, count(*) FROM events WHERE {0} IS NOT NULL GROUP BY 1")


class Streaming:
    """A producer that streams numbered events until it is told to end."""

    def __init__(self, target: str, tenant: KeyHolder, pause_seconds: float = 0.001) -> None:
        self._target, self._tenant, self._pause_seconds = target, tenant, pause_seconds
        self.sent = 0
        self.is_over = False

    async def run(self) -> None:
        """Stream; returns once every event is acknowledged."""
        async with StreamProducer(self._target, self._tenant.key, "streaming") as producer:
            while not self.is_over:
                metadata = {"streamed": self.sent}
                await producer.send(event(f"w-{self.sent % STREAMED_WORKERS}", metadata=metadata))
                self.sent += 1
                await asyncio.sleep(self._pause_seconds)


def stored(url: str) -> tuple[Counter[str], Counter[int], int]:
    """The stored events of each batch, those that were streamed, and what the quota counts."""
    with psycopg.connect(url) as db:
        batches, streamed = (
            db.execute(_COUNT.format(sql.SQL(label))).fetchall()
            for label in (
                "metadata->>'batch'",
                "(metadata->>'streamed')::int",
            )
        )
        used = db.execute("SELECT COALESCE(sum(used), 0)::bigint FROM quota_usage").fetchone()
    assert used is not None
    return Counter(dict(batches)), Counter(dict(streamed)), used[0]
