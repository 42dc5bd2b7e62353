"""Metrics of what a process holds and who waits in it, looked at once a second.

The parts count in plain integers, which cost the road of a request nothing. With several processes
each writes its own into its files (service/metrics.py), and the page has the sums.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from core.access.admission import Admission
from core.postgres.database import Database
from grpc_api.connections import Connections as GrpcConnections
from http_api.connections import Connections
from service.readiness import Readiness

SAMPLE_SECONDS: Final = 1.0
POOLS: Final = ("general", "journal")


class StateMetrics:
    """The gauges of a process, and its counts of refusals by bound, while :meth:`run` runs."""

    def __init__(
        self,
        registry: CollectorRegistry,
        admission: Admission,
        database: Database,
        connections: Connections,
        grpc_connections: GrpcConnections,
        readiness: Readiness,
        certificate_ends: Mapping[str, Callable[[], float] | None],
    ) -> None:
        self._database = database
        self._connections = connections
        self._grpc_connections = grpc_connections
        self._readiness = readiness
        # At the first a request that finds no room is refused, at the others it waits.
        self._refusing = {
            "request_bytes": admission.memory,
            "waiting_steps": admission.waiting_steps,
            "open_streams": admission.open_streams,
        }
        self._waited_for = {
            "streamed_events": admission.streamed,
        }
        self._seen: dict[str, int] = {}  # the counts of the parts when they were looked at last
        self._add_admission(registry)
        self._add_pools(registry)
        self._ready = _gauge(
            registry,
            "wepeople_ready",
            "1 if every server process would say at /readyz that it is ready.",
            mode="livemin",
        )
        self._ready.set(0)
        # Only where there is TLS: a series of a certificate that is not there would be an alarm.
        self._certificate_ends = {name: end for name, end in certificate_ends.items() if end}
        if self._certificate_ends:
            self._expiry = _gauge(
                registry,
                "wepeople_tls_certificate_expiry_timestamp_seconds",
                "When the TLS certificate in use ends, or one behind it, since the epoch.",
                "protocol",
                mode="livemin",
            )

    def _add_admission(self, registry: CollectorRegistry) -> None:
        self._used = _gauge(
            registry, "wepeople_admission_used", "Amount of each budget that is taken.", "budget"
        )
        self._limit = _gauge(
            registry, "wepeople_admission_limit", "Amount of each budget in all.", "budget"
        )
        self._waiting = _gauge(
            registry,
            "wepeople_admission_waiting",
            "Streams that wait for a part of a budget.",
            "budget",
        )
        self._refusals = Counter(
            "wepeople_admission_refusals",
            "Requests, streams and HTTP connections refused for want of room, by the bound.",
            ["bound"],
            registry=registry,
        )
        for bound in (*self._refusing, "http_connections"):
            self._refusals.labels(bound)

    def _add_pools(self, registry: CollectorRegistry) -> None:
        self._pool_used = _gauge(
            registry,
            "wepeople_pool_connections_in_use",
            "Connections to PostgreSQL that are lent, or being made.",
            "pool",
        )
        self._pool_limit = _gauge(
            registry, "wepeople_pool_connections_limit", "Connections that there may be.", "pool"
        )
        self._pool_waiting = _gauge(
            registry, "wepeople_pool_waiting", "Those who wait for a connection.", "pool"
        )
        self._pool_refusals = Counter(
            "wepeople_pool_refusals",
            "Times that no connection could be had.",
            ["pool"],
            registry=registry,
        )
        for pool in POOLS:
            self._pool_refusals.labels(pool)

    async def run(self) -> None:
        """Look at the parts until cancelled, and once more then."""
        try:
            while True:
                await self.sample()
                await asyncio.sleep(SAMPLE_SECONDS)
        finally:
            self._ready.set(0)
            self._count()

    async def sample(self) -> None:
        """Look at the parts once."""
        self._ready.set(await self._readiness.problem() is None)
        for name, budget in (self._refusing | self._waited_for).items():
            self._used.labels(name).set(budget.taken)
            self._limit.labels(name).set(budget.most)
        for name, budget in self._waited_for.items():
            self._waiting.labels(name).set(budget.waiting)
        self._used.labels("http_connections").set(len(self._connections))
        self._limit.labels("http_connections").set(self._connections.most)
        self._used.labels("grpc_connections").set(self._grpc_connections.open)
        self._limit.labels("grpc_connections").set(self._grpc_connections.most)
        for protocol, end in self._certificate_ends.items():
            self._expiry.labels(protocol).set(end())
        for pool, stats in self._database.pool_stats().items():
            self._pool_used.labels(pool).set(stats["pool_size"] - stats["pool_available"])
            self._pool_limit.labels(pool).set(stats["pool_max"])
            self._pool_waiting.labels(pool).set(stats["requests_waiting"])
        self._count()

    def _count(self) -> None:
        """Add to the counters by how much the parts' own counts have grown."""
        for name, budget in self._refusing.items():
            self._add(self._refusals, name, budget.refused)
        self._add(self._refusals, "http_connections", self._connections.refused)
        for pool, stats in self._database.pool_stats().items():
            self._add(self._pool_refusals, pool, stats.get("requests_errors", 0))

    def _add(self, counter: Counter, name: str, count: int) -> None:
        counter.labels(name).inc(count - self._seen.get(name, 0))
        self._seen[name] = count


def _gauge(
    registry: CollectorRegistry,
    name: str,
    documentation: str,
    *labels: str,
    mode: Literal["livesum", "livemin"] = "livesum",
) -> Gauge:
    return Gauge(name, documentation, labels, registry=registry, multiprocess_mode=mode)
