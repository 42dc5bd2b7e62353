"""The arithmetic of docs/scale.md: from the figures of an event to nodes for so many a month."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Final

SECONDS_A_MONTH: Final = 30 * 86_400
# Working hours of one part of the world carry most of a day, and Mondays more than Sundays.
PEAK: Final = 5
RETENTION_MONTHS: Final = 12

# A database node, and how far each of its resources may be used at the peak.
NODE_CORES: Final = 8
NODE_DISK_BYTES: Final = 2_000_000_000_000
NODE_WAL_BYTES_A_SECOND: Final = 100_000_000
USABLE_CORES: Final = 0.5
USABLE_DISK: Final = 0.7

EVENTS_A_MONTH: Final = (1_000_000_000, 10_000_000_000, 100_000_000_000)


@dataclass(frozen=True)
class Road:
    """What an event takes that is sent in one way; measured, see docs/scale.md."""

    name: str
    service_us: float
    database_us: float
    wal_bytes: int


# Measured: docs/scale.md.
STORED_BYTES: Final = 300
BATCHES: Final = Road("500 a batch", 6.0, 5.5, 320)
SHARED: Final = Road("1 a request, 64 at a time", 230.0, 55.0, 1_800)
ALONE: Final = Road("1 a request, one at a time", 880.0, 385.0, 1_800)
ROADS: Final = (BATCHES, SHARED, ALONE)


@dataclass(frozen=True)
class Need:
    """What so many events a month need, by resource."""

    events_a_month: int
    road: Road

    @property
    def peak(self) -> float:
        """Events a second in the busiest hours."""
        return self.events_a_month / SECONDS_A_MONTH * PEAK

    @property
    def service_cores(self) -> float:
        """Cores that the service keeps busy at the peak."""
        return self.peak * self.road.service_us / 1_000_000

    @property
    def processes(self) -> int:
        """Server processes, each of which uses a core as far as it may."""
        return ceil(self.service_cores / USABLE_CORES)

    @property
    def database_cores(self) -> float:
        """Cores that PostgreSQL keeps busy at the peak."""
        return self.peak * self.road.database_us / 1_000_000

    @property
    def wal(self) -> float:
        """Bytes of write-ahead log a second at the peak."""
        return self.peak * self.road.wal_bytes

    @property
    def stored(self) -> float:
        """Bytes of all events that are kept."""
        return float(self.events_a_month) * RETENTION_MONTHS * STORED_BYTES

    @property
    def nodes(self) -> dict[str, int]:
        """The database nodes that each resource asks for."""
        return {
            "disk": ceil(self.stored / (NODE_DISK_BYTES * USABLE_DISK)),
            "cores": ceil(self.database_cores / (NODE_CORES * USABLE_CORES)),
            "log": ceil(self.wal / NODE_WAL_BYTES_A_SECOND),
        }


def lines() -> Iterator[str]:
    """The table of docs/scale.md."""
    yield (
        "| events a month, sent | at the peak | service | processes | PostgreSQL | log | stored "
        "| nodes by disk | by cores | by log |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for events in EVENTS_A_MONTH:
        for road in ROADS:
            need = Need(events, road)
            nodes = need.nodes
            yield (
                f"| {events // 1_000_000_000} billion, {road.name} | {need.peak:,.0f}/s "
                f"| {need.service_cores:.2f} cores | {need.processes} "
                f"| {need.database_cores:.2f} cores | {need.wal / 1_000_000:.1f} MB/s "
                f"| {need.stored / 1e12:.1f} TB "
                f"| {nodes['disk']} | {nodes['cores']} | {nodes['log']} |"
            )
