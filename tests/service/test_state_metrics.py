"""What a process holds and who waits in it, as metrics."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry

from core.access.admission import Admission
from core.access.fair_queue import STRANGERS
from core.errors import IngestError
from core.postgres.database import Database
from core.postgres.node import MAX_NODE_JOURNAL_CONNECTIONS
from grpc_api.connections import Connections as GrpcConnections
from http_api.connections import Connections
from service.state_metrics import StateMetrics
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


class Ready:
    """Readiness, as the test says."""

    reason: str | None = None

    async def problem(self) -> str | None:
        """None, or the reason."""
        return self.reason


class Stranger:
    """A connection that stays."""

    client: tuple[str, int] | None = None

    def is_authenticated(self) -> bool:
        """Let it not give way."""
        return True

    def evict(self) -> None:
        """Never happens."""
        raise AssertionError


class Parts:
    """The parts of a service, and the metrics of their state."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        self.admission = Admission()
        self.connections = Connections(1)
        self.grpc_connections = GrpcConnections(7)
        self.readiness = Ready()
        self.metrics = StateMetrics(
            self.registry,
            self.admission,
            database,
            self.connections,
            self.grpc_connections,
            self.readiness,  # type: ignore[arg-type]
            {"http": lambda: 2_000_000_000.0, "grpc": None},
        )

    def values(self, name: str) -> dict[str, float]:
        """The values of a metric by its only label."""
        return {
            "".join(sample.labels.values()): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name
        }


async def test_budgets_tell_what_is_taken_who_waits_and_who_was_refused(database_url: str) -> None:
    async with Database(database_url) as database:
        parts = Parts(database)
        assert parts.values("wepeople_admission_refusals_total") == dict.fromkeys(
            ("request_bytes", "waiting_steps", "open_streams", "http_connections"), 0
        )
        admission = parts.admission
        parts.grpc_connections.open = 3
        assert admission.memory.try_take(STRANGERS, 1_000)
        assert not admission.memory.try_take(STRANGERS, admission.memory.most)
        assert admission.streamed.try_take(STRANGERS, admission.streamed.most)
        waiting = asyncio.create_task(admission.streamed.take(STRANGERS, 1))
        parts.connections.add(Stranger())
        parts.connections.begin_request(next(iter(parts.connections._flow_of)))
        assert not parts.connections.add(Stranger())

        async def waits() -> bool:
            await parts.metrics.sample()
            return parts.values("wepeople_admission_waiting")["streamed_events"] == 1

        await eventually(waits, "one waits for streamed events")
        await parts.metrics.sample()  # a second look counts nothing again
        used, limit = (parts.values(f"wepeople_admission_{name}") for name in ("used", "limit"))
        assert used["request_bytes"] == 1_000
        assert used["streamed_events"] == limit["streamed_events"] == admission.streamed.most
        assert used["http_connections"] == limit["http_connections"] == 1
        assert (used["grpc_connections"], limit["grpc_connections"]) == (3, 7)
        assert used.keys() == limit.keys()
        assert parts.values("wepeople_admission_waiting") == {
            "streamed_events": 1,
        }
        assert parts.values("wepeople_admission_refusals_total") == {
            "request_bytes": 1,
            "waiting_steps": 0,
            "open_streams": 0,
            "http_connections": 1,
        }
        waiting.cancel()


async def test_the_end_of_a_certificate_is_told_where_there_is_one(database_url: str) -> None:
    async with Database(database_url) as database:
        parts = Parts(database)
        await parts.metrics.sample()
        ends = parts.values("wepeople_tls_certificate_expiry_timestamp_seconds")
        assert ends == {"http": 2_000_000_000.0}


async def test_pools_tell_what_is_lent_and_who_waits(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.postgres.node.CHECKOUT_SECONDS", 60.0)
    async with Database(database_url, max_connections=2) as database:
        parts = Parts(database)
        async with database.connection(), database.connection():
            waiting = asyncio.create_task(database.connection().__aenter__())

            async def is_settled() -> bool:
                await parts.metrics.sample()
                used = parts.values("wepeople_pool_connections_in_use")
                waits = parts.values("wepeople_pool_waiting")
                # Connections that are being opened count as lent.
                return used == {"general": 2, "journal": 0} and waits["general"] == 1

            await eventually(is_settled, "the pool is lent whole, and one waits for it")
            assert parts.values("wepeople_pool_waiting")["journal"] == 0
            assert parts.values("wepeople_pool_connections_limit") == {
                "general": 2,
                "journal": MAX_NODE_JOURNAL_CONNECTIONS,
            }
            assert parts.values("wepeople_pool_refusals_total") == {"general": 0, "journal": 0}
            waiting.cancel()
            await asyncio.wait([waiting])


async def test_pools_tell_who_got_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.postgres.node.CHECKOUT_SECONDS", 0.2)
    async with Database(database_url) as database:
        parts = Parts(database)
        async with contextlib.AsyncExitStack() as lent:
            refused = False
            while not refused:
                try:
                    await lent.enter_async_context(database.connection())
                except IngestError:
                    refused = True
            await parts.metrics.sample()
        assert parts.values("wepeople_pool_refusals_total") == {"general": 1, "journal": 0}


async def test_readiness_is_told_while_it_runs_and_the_last_counts_are_not_lost(
    database_url: str,
) -> None:
    async with Database(database_url) as database:
        parts = Parts(database)
        assert parts.values("wepeople_ready") == {"": 0}
        running = asyncio.create_task(parts.metrics.run())
        await eventually(lambda: parts.values("wepeople_ready") == {"": 1}, "it is told")
        parts.readiness.reason = "shutting down"
        await parts.metrics.sample()
        assert parts.values("wepeople_ready") == {"": 0}
        assert not parts.admission.open_streams.try_take(STRANGERS, 10_000)
        running.cancel()
        await asyncio.wait([running])
        assert parts.values("wepeople_admission_refusals_total")["open_streams"] == 1
