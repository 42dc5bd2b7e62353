"""A cell on Citus under load: moved, its node crashing, and through a node that does not own it.

Skipped without a cluster (tests/support/citus.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest

from core.postgres.citus import at_node
from core.postgres.directory import CellRecord
from tests.support import citus
from tests.support.batch_load import BatchLoad
from tests.support.cells import enter_cell, make_tenant_in, url_of
from tests.support.service_process import ServiceProcess, service_on
from tests.support.streaming import Streaming, stored
from tests.support.tenant import Tenant, now_us

CLIENTS = 3
BATCHES = 40  # between two faults
# A node recovers first; and a transaction that was passed on keeps its locks until Citus has ended
# it, once a minute (citus.recover_2pc_interval).
BACK_SECONDS = 100.0

pytestmark = pytest.mark.timeout(300)


class World(NamedTuple):
    """A cell on the cluster, an organization in it, and a service of a home database elsewhere."""

    cell: CellRecord
    tenant: Tenant
    service: ServiceProcess


@pytest.fixture(params=[True, False], ids=["at its owner", "through the coordinator"])
def world(request: pytest.FixtureRequest, database_url: str) -> Iterator[World]:
    """The service does not know that the cell is on Citus if it goes through the coordinator."""
    with citus.cell(now_us()) as made:
        cell = made._replace(is_citus=request.param)

        async def enter() -> Tenant:
            await enter_cell(cell, database_url)
            return await make_tenant_in(cell, database_url)

        tenant = asyncio.run(enter())
        with service_on(database_url) as service:
            yield World(cell, tenant, service)


def run(world: World, faults: Callable[[BatchLoad], None]) -> None:
    """Load the service while faults happen; in the end everything is stored, and that once."""
    cell, tenant, service = world
    load = BatchLoad(service, tenant)
    streaming = Streaming(service.grpc, tenant, pause_seconds=0.01)

    async def work() -> None:
        stream = asyncio.create_task(streaming.run())
        try:
            await load.run(lambda: faults(load), clients=CLIENTS)
        finally:
            streaming.is_over = True
        await stream

    asyncio.run(work())
    assert cell.conninfo is not None
    batches, streamed, used = stored(url_of(cell, cell.conninfo))
    load.check(batches)
    assert streamed == Counter(range(streaming.sent))
    assert used == batches.total() + streamed.total()


def test_a_cell_is_moved_there_and_back(world: World) -> None:
    def move_twice(load: BatchLoad) -> None:
        for _ in range(2):
            load.acknowledges(BATCHES)
            citus.move(world.cell)
        load.acknowledges(BATCHES)

    run(world, move_twice)


def test_the_node_of_a_cell_crashes(world: World) -> None:
    def crash_twice(load: BatchLoad) -> None:
        load.acknowledges(BATCHES)
        for _ in range(2):
            citus.crash(world.cell)
            load.acknowledges(BATCHES, BACK_SECONDS)

    run(world, crash_twice)


def test_sessions_of_a_node_serve_its_cells_in_turn(database_url: str) -> None:
    """Prepared statements take the tables of the schema that is used when they are executed."""
    with citus.cell(now_us()) as one, citus.cell(now_us()) as other:
        cells = one, other

        async def enter() -> list[Tenant]:
            for cell in cells:
                await enter_cell(cell, database_url)
            return [await make_tenant_in(cell, database_url) for cell in cells]

        tenants = asyncio.run(enter())
        with service_on(database_url) as service:
            loads = [BatchLoad(service, tenant) for tenant in tenants]

            async def work() -> None:
                async with asyncio.TaskGroup() as group:
                    for load in loads:
                        group.create_task(load.run(partial(load.acknowledges, BATCHES)))

            asyncio.run(work())
        for cell, load in zip(cells, loads, strict=True):
            assert cell.conninfo is not None
            load.check(stored(url_of(cell, cell.conninfo))[0])


def test_a_node_has_the_address_that_the_service_is_given() -> None:
    """The tests above say nothing if the nodes of the cluster cannot be reached."""
    coordinator = citus.coordinator()
    for address in citus.node_addresses(coordinator):
        assert citus.query(at_node(coordinator, *address), "SELECT 1") == [(1,)]
