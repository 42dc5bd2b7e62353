"""The nodes that so many events a month need, as docs/scale.md has them."""

from __future__ import annotations

import pytest

from core.postgres.node import MAX_NODE_JOURNAL_CONNECTIONS, MAX_POOL_CONNECTIONS
from tests.capacity import nodes
from tests.capacity.scale_page import TEXT, holds


def test_each_need_is_proportional_to_the_events() -> None:
    small, large = (nodes.Need(events, nodes.BATCHES) for events in (10**9, 10**11))
    assert large.peak == pytest.approx(100 * small.peak)
    assert large.stored == pytest.approx(100 * small.stored)
    assert large.nodes["disk"] >= 99 * (small.nodes["disk"] - 1)


def test_a_node_of_the_table_is_not_used_beyond_its_bounds() -> None:
    need = nodes.Need(100_000_000_000, nodes.ALONE)
    count = max(need.nodes.values())
    assert need.stored / count <= nodes.NODE_DISK_BYTES * nodes.USABLE_DISK
    assert need.database_cores / count <= nodes.NODE_CORES * nodes.USABLE_CORES
    assert need.service_cores / need.processes <= nodes.USABLE_CORES
    assert need.wal / count <= nodes.NODE_WAL_BYTES_A_SECOND


def test_the_page_has_the_connections_that_a_process_may_have() -> None:
    most = MAX_POOL_CONNECTIONS + MAX_NODE_JOURNAL_CONNECTIONS
    assert f"up to {most} to each node" in TEXT
    assert f"with 89 it is {89 * most:,}" in TEXT


def test_the_page_has_the_table_and_the_figures_it_is_made_of() -> None:
    assert holds(nodes.lines())
    for road in nodes.ROADS:
        assert (
            f"| {road.name} | {road.service_us:g} | {road.database_us:g} | {road.wal_bytes:,} |"
            in TEXT
        )
    assert f"{nodes.STORED_BYTES} bytes" in TEXT
