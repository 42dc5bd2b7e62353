"""The database servers that a process works on; the cells of one share its pools."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from core.access.shared_budget import SharedBudget
from core.postgres.citus import CitusDatabase
from core.postgres.database import Database
from core.postgres.directory import CellRecord
from core.postgres.node import MAX_POOL_CONNECTIONS

MAX_STREAM_OPENINGS: Final = 4  # at once: half of a pool's connections, and one flow gets two


class Node(NamedTuple):
    """A database server, and what is a share of its pools.

    ``stream_openings``: producers' streams that use its database to open.
    """

    database: Database
    stream_openings: SharedBudget

    @classmethod
    def of(cls, database: Database) -> Node:
        """The node of a database, whether or not that is open."""
        return cls(database, SharedBudget(MAX_STREAM_OPENINGS))


class Nodes:
    """Opens a database when the first of its cells asks for it, and closes all but the home one.

    ``max_connections``: of the pool of each node but the home one.
    """

    def __init__(self, home: Database, max_connections: int = MAX_POOL_CONNECTIONS) -> None:
        self._home = Node.of(home)
        self._max_connections = max_connections
        self._nodes: dict[str, Node] = {}
        self._coordinators: dict[str, Node] = {}  # never open
        self._opening = asyncio.Lock()

    async def of(self, cell: CellRecord) -> Node:
        """The node of a cell, with the cell's own database: its schema in that of the node.

        Never fails if a server is away.
        """
        if cell.is_citus:
            return await self._of_cluster(cell)
        node = self._home if cell.conninfo is None else await self._at(cell.conninfo)
        return node._replace(database=node.database.in_schema(cell.schema))

    async def _of_cluster(self, cell: CellRecord) -> Node:
        """As :meth:`of`; cells of one cluster share what is a share of pools, as they move."""
        assert cell.schema is not None
        conninfo = cell.conninfo or self._home.database.conninfo
        if conninfo not in self._coordinators:
            self._coordinators[conninfo] = Node.of(Database(conninfo))
        coordinator = self._coordinators[conninfo]
        database = CitusDatabase(coordinator.database, cell.schema, self._database_at)
        await database.locate()
        return coordinator._replace(database=database)

    async def _database_at(self, conninfo: str) -> Database:
        return (await self._at(conninfo)).database

    async def _at(self, conninfo: str) -> Node:
        async with self._opening:
            if conninfo not in self._nodes:
                database = Database(conninfo, max_connections=self._max_connections)
                self._nodes[conninfo] = Node.of(await database.__aenter__())
        return self._nodes[conninfo]

    async def close(self) -> list[BaseException]:
        """Close the databases, all at the same time; returns the errors of that."""
        closing = [node.database.__aexit__() for node in self._nodes.values()]
        ends = await asyncio.gather(*closing, return_exceptions=True)
        return [end for end in ends if isinstance(end, BaseException)]
