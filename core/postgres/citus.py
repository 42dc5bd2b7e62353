"""Cells on Citus: a distributed schema, whose tables are all on one node of the cluster.

Every node takes every statement and passes it on to the node that owns the schema, so that work
stays correct wherever it goes. It is done on the owner, where nothing has to be passed on. Tables
are changed through the coordinator: no other node does that.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NamedTuple

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from core.errors import IngestError
from core.failure_log import one_line
from core.postgres.database import Database
from core.postgres.errors import DatabaseUnusableError, is_temporary, temporary_failure
from core.postgres.search_path import use_schema
from core.postgres.sessions import Connection, connect

log = logging.getLogger(__name__)

OWNER_SECONDS: Final = (
    2.0  # for the node that is known, and then the coordinator, to tell the owner
)

# Every node has the metadata. A server that is no node has no such tables.
_OWNER: Final = """
SELECT nodename, nodeport
FROM pg_dist_shard JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node USING (groupid)
WHERE logicalrelid = to_regclass('organizations') AND noderole = 'primary'
"""
# No row: there is no such schema.
_IS_DISTRIBUTED: Final = """
SELECT EXISTS (SELECT FROM pg_dist_schema WHERE schemaid = oid) FROM pg_namespace WHERE nspname = %s
"""
_DISTRIBUTE: Final = "SET citus.enable_schema_based_sharding TO on"
_AS_USUAL: Final = "RESET citus.enable_schema_based_sharding"
_CREATE: Final = "CREATE SCHEMA {}"

# Gives the database of a connection string, open, with pools that its cells share.
DatabaseAt = Callable[[str], Awaitable[Database]]


async def create_schema(coordinator: Connection, schema: str) -> None:
    """Make a distributed schema, unless it is there.

    Raises :class:`DatabaseUnusableError` if the server is no coordinator of a Citus cluster, or has
    a schema of that name that is not distributed.
    """
    try:
        row = await (await coordinator.execute(_IS_DISTRIBUTED, (schema,))).fetchone()
        if row is None:
            await coordinator.execute(_DISTRIBUTE)
            await coordinator.execute(sql.SQL(_CREATE).format(sql.Identifier(schema)))
            await coordinator.execute(_AS_USUAL)
    except errors.UndefinedTable as error:
        raise DatabaseUnusableError(
            "the database is not on Citus: run CREATE EXTENSION citus on each of its nodes, or "
            "leave --citus out"
        ) from error
    if row is not None and not row[0]:
        raise DatabaseUnusableError(
            f"the schema {schema} is there and is not distributed: choose another name"
        )


class Owner(NamedTuple):
    """The address of the node that owns a schema, as the cluster's metadata has it."""

    host: str
    port: int


async def owner(db: Connection) -> Owner | None:
    """The owner of the session's schema; None if the server knows of none."""
    try:
        row = await (await db.execute(_OWNER, prepare=False)).fetchone()
    except errors.UndefinedTable:
        return None
    return row and Owner(*row)


def at_node(conninfo: str, host: str, port: int) -> str:
    """The connection string of another node of the cluster."""
    given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    given.pop("hostaddr", None)
    return make_conninfo(**{**given, "host": host, "port": str(port)})


class CitusDatabase(Database):
    """A distributed schema, on the node that owns it.

    ``coordinator`` is never opened; it tells where the coordinator is. Until the owner is known,
    work fails as if the server were away. ``database_at`` opens the nodes, and closes them in the
    end. Call :meth:`locate` at first and every now and then: the owner changes when the schema is
    moved, and its address may when it fails over.
    """

    def __init__(self, coordinator: Database, schema: str, database_at: DatabaseAt) -> None:
        self._conninfo = self._coordinator = coordinator._conninfo
        self._schema = schema
        self._node = coordinator._node
        self._database_at = database_at
        self._is_located = self._is_lost = False

    async def locate(self) -> None:
        """Turn to the node that owns the schema now; stay where it is if nobody tells in time."""
        found = None
        if self._is_located:
            with contextlib.suppress(psycopg.Error, IngestError):
                found = await self.within(OWNER_SECONDS, self._ask_node())
        try:
            if found is None:
                found = await self.within(OWNER_SECONDS, self._ask_coordinator())
            if found is None:
                raise DatabaseUnusableError("the coordinator knows no such schema")
        except (psycopg.Error, DatabaseUnusableError, OSError) as error:
            if not self._is_lost:
                reason = one_line(error)
                log.warning("cannot tell which node owns cell %s: %s", self._schema, reason)
            self._is_lost = True
            return
        self._is_lost = False
        conninfo = at_node(self._coordinator, *found)
        if not self._is_located or conninfo != self._conninfo:
            database = await self._database_at(conninfo)
            self._node, self._conninfo, self._is_located = database._node, conninfo, True
            log.info("cell %s is on node %s:%d", self._schema, *found)

    async def _ask_node(self) -> Owner | None:
        async with self.connection() as db:
            return await owner(db)

    async def _ask_coordinator(self) -> Owner | None:
        async with await self._at_coordinator() as db:
            return await owner(db)

    async def _at_coordinator(self) -> Connection:
        db = await connect(self._coordinator)
        await use_schema(db, self._schema)
        return db

    async def discard_stale(self) -> None:
        """As of every database; the owner may be another one since its server was away."""
        await self.locate()
        await super().discard_stale()

    @contextlib.asynccontextmanager
    async def ddl_connection(self) -> AsyncIterator[Connection]:
        """A connection to the coordinator, in autocommit mode; raises as :meth:`connection`."""
        async with self._node.background:
            try:
                async with await self._at_coordinator() as db:
                    yield db
            except psycopg.Error as error:
                if not is_temporary(error):
                    raise
                raise temporary_failure(error) from error
