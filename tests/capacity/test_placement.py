"""Cells share organizations evenly, but not the load; moving cells between nodes does that."""

from __future__ import annotations

import random
from uuid import UUID

import pytest

from core.postgres import directory
from core.postgres.directory import CellRecord, OrganizationPlace
from core.timestamps import to_datetime
from tests.capacity import placement
from tests.capacity.scale_page import holds
from tests.support.database import connect
from tests.support.tenant import now_us


def test_the_fewest_organizations_go_even_and_the_load_does_not() -> None:
    loads = placement.zipf(placement.ORGANIZATIONS)
    assert sum(loads) == pytest.approx(1)
    assert loads[0] == pytest.approx(2 * loads[1])
    cells = placement.place(loads, placement.CELLS, random.Random(placement.SEED))
    counts = [cell.organizations for cell in cells]
    assert sum(counts) == placement.ORGANIZATIONS
    assert max(counts) - min(counts) <= 1
    assert sum(cell.load for cell in cells) == pytest.approx(1)
    assert max(cell.load for cell in cells) >= loads[0] > 5 / placement.CELLS


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("nodes", placement.NODES)
def test_moves_of_cells_even_out_the_nodes_as_far_as_the_hottest_cell_lets_them(
    nodes: int, seed: int
) -> None:
    balance = placement.simulate(nodes, seed)
    assert balance.least - 1e-9 <= balance.after <= balance.before
    assert balance.after <= balance.least * 1.1
    assert balance.moves <= placement.CELLS // 2
    # A new node takes its share of the cells, and no more moves than that.
    assert balance.added_moves <= 2 * placement.CELLS // (nodes + 1)


@pytest.mark.anyio
async def test_organizations_are_placed_as_the_product_places_them(database_url: str) -> None:
    placed = placement.place([1.0] * 10, 4, random.Random(placement.SEED))
    async with await connect(database_url) as db:
        for name in ("a", "b", "c"):
            await directory.add_cell(db, CellRecord(name, None, name), to_datetime(now_us()))
        for number in range(10):
            cell = await directory.open_cell_for_new(db)
            assert cell is not None
            place = OrganizationPlace(UUID(int=number), f"Org {number}", cell.name)
            await directory.reserve(db, place)
        counts = await directory.count_organizations(db)
    assert sorted(counts.values()) == sorted(cell.organizations for cell in placed)


def test_the_page_has_the_simulated_figures() -> None:
    assert holds(placement.cell_lines())
    assert holds(placement.node_lines())
