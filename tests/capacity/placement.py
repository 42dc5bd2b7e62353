"""A simulation of organizations in cells and of cells on nodes: how even the load becomes.

Sizes of organizations follow Zipf's law: the second largest has half of the events of the largest,
the third a third, and so on. The order in which they arrive has nothing to do with their size.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

ORGANIZATIONS: Final = 10_000
CELLS: Final = 64
NODES: Final = (4, 8, 16)
SEED: Final = 13
# A move that takes less than this part of the hottest node's load is not worth its copying.
MIN_GAIN: Final = 0.01


def zipf(count: int) -> list[float]:
    """The share of all events of each organization, the largest first."""
    sizes = [1 / rank for rank in range(1, count + 1)]
    total = sum(sizes)
    return [size / total for size in sizes]


@dataclass
class Cell:
    """A cell with the number of its organizations and their share of all events."""

    organizations: int = 0
    load: float = 0.0


def place(loads: Sequence[float], cells: int, random_: random.Random) -> list[Cell]:
    """Organizations that arrive in random order, each in the cell with the fewest."""
    made = [Cell() for _ in range(cells)]
    for load in random_.sample(loads, len(loads)):
        cell = min(made, key=lambda one: one.organizations)
        cell.organizations += 1
        cell.load += load
    return made


Nodes = list[list[Cell]]


def spread(cells: Sequence[Cell], nodes: int) -> Nodes:
    """The cells on nodes by turns, as they are before anybody knows how large they become."""
    return [list(cells[number::nodes]) for number in range(nodes)]


def load(node: Sequence[Cell]) -> float:
    """The share of all events of a node's cells."""
    return sum(cell.load for cell in node)


def imbalance(nodes: Sequence[Sequence[Cell]]) -> float:
    """The hottest node's load as a multiple of the mean."""
    return max(map(load, nodes)) * len(nodes) / sum(map(load, nodes))


def balance(nodes: Nodes) -> int:
    """Move cells, one at a time, from the hottest node to the coldest; returns the moves.

    Each move is the one after which the hotter of the two is the coldest. It ends when a move gains
    less than ``MIN_GAIN``.
    """
    moves = 0
    while True:
        hot, cold = max(nodes, key=load), min(nodes, key=load)
        hot_load, cold_load = load(hot), load(cold)

        def hotter_after(cell: Cell, hot: float = hot_load, cold: float = cold_load) -> float:
            return max(hot - cell.load, cold + cell.load)

        moved = min(hot, key=hotter_after)
        if hotter_after(moved) > hot_load * (1 - MIN_GAIN):
            return moves
        hot.remove(moved)
        cold.append(moved)
        moves += 1


@dataclass(frozen=True)
class Balance:
    """How even some nodes are: the hottest as a multiple of the mean, before and after moves.

    ``least``: below which no move of whole cells can bring it, for the hottest cell is on a node.
    ``added``: the moves after one more node, and how even they leave it.
    """

    nodes: int
    before: float
    after: float
    moves: int
    least: float
    added_moves: int
    added_after: float


def simulate(nodes: int, seed: int = SEED) -> Balance:
    """The usual organizations and cells on so many nodes."""
    cells = place(zipf(ORGANIZATIONS), CELLS, random.Random(seed))
    placed = spread(cells, nodes)
    before = imbalance(placed)
    moves = balance(placed)
    after = imbalance(placed)
    least = max(1.0, max(cell.load for cell in cells) * nodes)
    placed.append([])
    added_moves = balance(placed)
    return Balance(nodes, before, after, moves, least, added_moves, imbalance(placed))


def cell_lines() -> Iterator[str]:
    """The table of docs/scale.md about cells."""
    cells = place(zipf(ORGANIZATIONS), CELLS, random.Random(SEED))
    counts = [cell.organizations for cell in cells]
    shares = sorted((cell.load * CELLS for cell in cells), reverse=True)
    yield "| cells | the fewest | the median | the most |"
    yield "| --- | --- | --- | --- |"
    yield f"| organizations | {min(counts)} | {sorted(counts)[CELLS // 2]} | {max(counts)} |"
    yield (
        f"| load, as a multiple of the mean | {shares[-1]:.2f} | {shares[CELLS // 2]:.2f} "
        f"| {shares[0]:.2f} |"
    )


def node_lines() -> Iterator[str]:
    """The table of docs/scale.md about nodes."""
    yield (
        "| nodes | hottest as placed | after moves | moves | no cell moved makes it less than "
        "| one more node: moves | hottest then |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for nodes in NODES:
        one = simulate(nodes)
        yield (
            f"| {nodes} | {one.before:.2f} | {one.after:.2f} | {one.moves} | {one.least:.2f} "
            f"| {one.added_moves} | {one.added_after:.2f} |"
        )
