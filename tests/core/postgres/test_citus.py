"""Cells on Citus: the owner of a schema, and work on it wherever it goes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from psycopg import Error
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import DivisionByZero

from core import ids
from core.clock import Clock
from core.errors import IngestError
from core.journal import quota
from core.models import Worker
from core.postgres import copy_rows, partitions
from core.postgres.citus import CitusDatabase, at_node, create_schema, owner
from core.postgres.database import Database
from core.postgres.directory import CellRecord
from core.postgres.errors import DatabaseUnusableError
from core.postgres.pipeline import BEGIN, COMMIT, Command, CopyCommand, send
from core.postgres.sessions import connect
from tests.support import citus

pytestmark = pytest.mark.anyio

NOW_US = Clock().now_us()
ORGANIZATION = ids.new(NOW_US)
YEAR_US = 365 * 86_400 * 1_000_000


@pytest.fixture
def cell() -> Iterator[CellRecord]:
    """A cell on the cluster."""
    with citus.cell(NOW_US) as made:
        yield made


def test_a_node_is_reached_as_the_coordinator_is() -> None:
    given = "host=a,b hostaddr=127.0.0.1,127.0.0.2 port=1,2 user=u password='p w' dbname=d"
    assert conninfo_to_dict(at_node(given, "n", 5)) == {
        "host": "n",
        "port": "5",
        "user": "u",
        "password": "p w",
        "dbname": "d",
    }


async def test_a_server_without_citus_is_refused_by_name(database_url: str) -> None:
    async with await connect(database_url) as db:
        with pytest.raises(DatabaseUnusableError, match="CREATE EXTENSION citus"):
            await create_schema(db, "cell")
        assert await owner(db) is None


async def test_a_cell_whose_owner_is_unknown_fails_as_if_its_server_were_away(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with citus.nodes() as database_at:
        database = CitusDatabase(Database(database_url), "public", database_at)
        with caplog.at_level(logging.WARNING):
            await database.locate()
        assert "the coordinator knows no such schema" in caplog.text
        with pytest.raises(IngestError) as caught:
            async with database.connection():
                pass
        assert (caught.value.code, caught.value.transient) == ("internal_error", True)


async def test_a_schema_that_is_not_distributed_is_refused() -> None:
    coordinator = citus.coordinator()
    citus.query(coordinator, "CREATE SCHEMA plain_cell")
    try:
        async with await connect(coordinator) as db:
            with pytest.raises(DatabaseUnusableError, match="not distributed"):
                await create_schema(db, "plain_cell")
    finally:
        citus.query(coordinator, "DROP SCHEMA plain_cell")


async def test_work_goes_to_the_owner_and_tables_change_through_the_coordinator(
    cell: CellRecord,
) -> None:
    coordinator = citus.coordinator()
    async with citus.nodes() as database_at:
        database = citus.on_citus(cell, database_at)
        await database.locate()
        for later_us in (NOW_US + YEAR_US, NOW_US + 2 * YEAR_US):
            async with database.connection() as db:
                found = await owner(db)
                assert (db.info.host, db.info.port) == found
            async with database.ddl_connection() as db:
                assert db.info.port == int(conninfo_to_dict(coordinator)["port"] or 5432)
                assert await partitions.ensure_partitions(db, later_us)
                assert await partitions.drop_expired(db, later_us, 1)
            citus.move(cell)  # and all of it once more
            async with database.connection() as db:
                assert await owner(db) != found
            await database.locate()


@pytest.mark.parametrize("position", range(3))
async def test_a_charge_is_exact_through_every_node(cell: CellRecord, position: int) -> None:
    coordinator = citus.coordinator()
    node = sorted(citus.node_addresses(coordinator))[position]
    async with Database(at_node(coordinator, *node)) as server:
        database = server.in_schema(cell.schema)
        async with database.connection() as db:
            await db.execute(
                "INSERT INTO organizations VALUES (%s, 'acme', true, 5, 1, now())", (ORGANIZATION,)
            )
        account = quota.account(ORGANIZATION, NOW_US)
        async with database.journal_connection(20) as db:
            for left in (3, 1):
                commands = quota.charge({account: 2})
                await send(db, [Command(BEGIN), *commands, Command(COMMIT)])
                assert quota.left(commands[-1]) == {account: left}
        gone = quota.account(ids.new(NOW_US), NOW_US)
        for charged in ({account: 2}, {gone: 1}):
            async with database.journal_connection(20) as db:
                commands = quota.charge(charged)
                with pytest.raises(DivisionByZero):
                    await send(db, [Command(BEGIN), *commands, Command(COMMIT)])
                await db.rollback()
            assert quota.is_short(commands[-1])


@pytest.mark.parametrize("position", range(3))
async def test_an_event_without_a_partition_is_recognized_through_every_node(
    cell: CellRecord, position: int
) -> None:
    coordinator = citus.coordinator()
    node = sorted(citus.node_addresses(coordinator))[position]
    worker = Worker(ids.new(NOW_US), "Ann")
    first_id = ids.first_at(NOW_US + 50 * YEAR_US).int
    tails = copy_rows.tails(first_id, [copy_rows.kind("a.b", "code")], [NOW_US], [None], [None])
    row = copy_rows.assemble(worker.id, worker.id, first_id, [worker], [0], tails)
    async with Database(at_node(coordinator, *node)) as server:
        async with server.in_schema(cell.schema).journal_connection(20) as db:
            copy = CopyCommand(copy_rows.COPY_EVENTS)
            await send(db, [copy])
            with pytest.raises(Error) as caught:
                await copy.write(db, copy_rows.table(row))
        assert partitions.is_missing(caught.value)
