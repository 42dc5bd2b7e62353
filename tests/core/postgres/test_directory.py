"""The directory: right whoever writes to the home cell, and unique over all cells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import pytest
from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation

from core.postgres import directory
from core.postgres.directory import CellRecord, KeyPlace, NameTakenError, OrganizationPlace
from core.postgres.migrate import apply_all, available, migrate
from tests.support.database import connect
from tests.support.databases import new_database

pytestmark = pytest.mark.anyio

NOW: Final = datetime(2026, 7, 1, tzinfo=UTC)
ACME, BETA, APP = UUID(int=1), UUID(int=2), UUID(int=3)
NORTH: Final = CellRecord("north", "host=db.example", "north")

Db = AsyncConnection[Any]


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Db]:
    async with await connect(database_url) as db:
        yield db


async def put_organization(db: Db, organization_id: UUID, name: str) -> None:
    """As the release before does it."""
    await db.execute(
        "INSERT INTO organizations VALUES (%s, %s, true, NULL, 600, now())", (organization_id, name)
    )
    await db.execute(
        "INSERT INTO apps VALUES (%s, %s, 'crm', 'CRM', '{}', now())", (organization_id, APP)
    )


async def put_key(db: Db, organization_id: UUID, digest: bytes) -> None:
    await db.execute(
        "INSERT INTO api_keys VALUES (%s, gen_random_uuid(), %s, %s, 'abcd', 60, now())",
        (organization_id, APP, digest),
    )


async def test_those_of_the_release_before_are_in_it(postgres: str) -> None:
    with new_database(postgres, "wepeople_directory") as url:
        async with await connect(url) as db:
            await apply_all(db, available("home")[:5])
            await put_organization(db, ACME, "Acme")
            await put_key(db, ACME, b"a")
            await put_key(db, ACME, b"b")
            await put_key(db, ACME, b"b")  # nothing forbids it
            await migrate(url)
            assert await directory.list_cells(db) == [CellRecord("home")]
            assert await directory.list_organizations(db) == [
                OrganizationPlace(ACME, "Acme", "home")
            ]
            assert await directory.find_keys(db, [b"a", b"b", b"c"]) == {
                b"a": KeyPlace(ACME, "home", True),
                b"b": KeyPlace(ACME, "home", True),
            }


async def test_whoever_writes_to_the_home_cell_writes_to_it(db: Db) -> None:
    await put_organization(db, ACME, "Acme")
    await put_organization(db, BETA, "Beta")
    await put_key(db, ACME, b"a")
    await put_key(db, BETA, b"b")
    assert await directory.find_organization(db, None, "Acme") == (ACME, "Acme", "home")
    assert await directory.find_keys(db, [b"a"]) == {b"a": (ACME, "home", True)}

    await db.execute("UPDATE organizations SET name = 'Acme 2' WHERE id = %s", (ACME,))
    await db.execute("UPDATE api_keys SET digest = 'A' WHERE organization_id = %s", (ACME,))
    assert await directory.find_organization(db, ACME, None) == (ACME, "Acme 2", "home")
    assert await directory.find_organization(db, None, "Acme") is None
    assert await directory.find_keys(db, [b"a", b"A"]) == {b"A": (ACME, "home", True)}

    await db.execute("DELETE FROM api_keys WHERE organization_id = %s", (ACME,))
    await db.execute("DELETE FROM apps WHERE organization_id = %s", (ACME,))
    await db.execute("DELETE FROM organizations WHERE id = %s", (ACME,))
    assert await directory.list_organizations(db) == [(BETA, "Beta", "home")]
    assert await directory.find_keys(db, [b"A", b"b"]) == {b"b": (BETA, "home", True)}


async def test_hands_without_a_right_on_it_write_to_it(db: Db) -> None:
    await db.execute("CREATE ROLE wepeople_by_hand")
    try:
        await db.execute("GRANT ALL ON organizations, apps, api_keys TO wepeople_by_hand")
        await db.execute("SET ROLE wepeople_by_hand")
        await put_organization(db, ACME, "Acme")
        await put_key(db, ACME, b"a")
        await db.execute("RESET ROLE")
        assert await directory.find_keys(db, [b"a"]) == {b"a": (ACME, "home", True)}
    finally:
        await db.execute("RESET ROLE")
        await db.execute("DROP OWNED BY wepeople_by_hand")
        await db.execute("DROP ROLE wepeople_by_hand")


async def test_a_name_is_unique_over_all_cells(db: Db) -> None:
    assert await directory.add_cell(db, NORTH, NOW)
    acme = OrganizationPlace(ACME, "Acme", "north")
    assert await directory.reserve(db, acme) == acme
    # An interrupted making is resumed with the id that it had.
    assert await directory.reserve(db, OrganizationPlace(BETA, "Acme", "home")) == acme
    with pytest.raises(UniqueViolation):
        await put_organization(db, BETA, "Acme")

    await put_organization(db, BETA, "Beta")
    with pytest.raises(NameTakenError):
        await directory.rename(db, ACME, "Beta")
    await directory.rename(db, ACME, "Alpha")
    assert await directory.find_organization(db, ACME, None) == (ACME, "Alpha", "north")


async def test_a_reserved_organization_can_be_made_in_the_home_cell(db: Db) -> None:
    acme = OrganizationPlace(ACME, "Acme", "home")
    assert await directory.reserve(db, acme) == acme
    await put_organization(db, ACME, "Acme")
    assert await directory.list_organizations(db) == [acme]


async def test_keys_and_organizations_of_a_cell_are_put_and_forgotten(db: Db) -> None:
    await directory.add_cell(db, NORTH, NOW)
    await directory.reserve(db, OrganizationPlace(ACME, "Acme", "north"))
    for digest in (b"a", b"a", b"b"):
        await directory.put_key(db, digest, ACME, "north", None)
    assert await directory.find_keys(db, [b"a", b"b"]) == {
        b"a": (ACME, "north", True),
        b"b": (ACME, "north", True),
    }
    await directory.forget_key(db, b"a")
    assert await directory.find_keys(db, [b"a", b"b"]) == {b"b": (ACME, "north", True)}
    await directory.forget_organization(db, ACME)
    assert await directory.find_keys(db, [b"b"]) == {}
    assert await directory.list_organizations(db) == []


async def test_new_organizations_go_to_the_open_cell_with_the_fewest(db: Db) -> None:
    assert await directory.open_cell_for_new(db) == CellRecord("home")
    await put_organization(db, ACME, "Acme")
    assert await directory.add_cell(db, NORTH, NOW)
    assert not await directory.add_cell(db, NORTH, NOW)
    assert await directory.open_cell_for_new(db) == NORTH
    assert await directory.set_closed(db, "north", NOW)
    assert await directory.find_cell(db, "north") == NORTH._replace(is_closed=True)
    assert await directory.open_cell_for_new(db) == CellRecord("home")
    assert await directory.set_closed(db, "home", NOW)
    assert await directory.open_cell_for_new(db) is None
    assert await directory.set_closed(db, "north", None)
    assert await directory.open_cell_for_new(db) == NORTH
    assert not await directory.set_closed(db, "south", NOW)
    assert await directory.find_cell(db, "south") is None


async def test_its_changes_are_announced(database_url: str, db: Db) -> None:
    async with await connect(database_url) as listener:
        await listener.execute("LISTEN wepeople_changes")
        await directory.add_cell(db, NORTH, NOW)
        await directory.reserve(db, OrganizationPlace(ACME, "Acme", "north"))
        await directory.put_key(db, b"a", BETA, "north", None)
        heard = [one.payload async for one in listener.notifies(timeout=5, stop_after=3)]
    assert heard == ["north", str(ACME), str(BETA)]


@pytest.mark.parametrize(
    ("name", "is_name"),
    [("north", True), ("n_2", True), ("a" * 30, True), ("a" * 31, False), ("", False)]
    + [(name, False) for name in ("North", "2n", "_n", "n-2", "pg_north", "n\n", "é")],
)
def test_a_cell_has_a_name_that_is_a_schema_s(name: str, is_name: bool) -> None:
    assert directory.is_cell_name(name) is is_name
