"""Cells behind one directory: changes in another cell than home, interrupted and announced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.errors import QueryCanceled

from core import ids
from core.access.api_keys import digest
from core.access.invalidation import CHANNEL
from core.access.key_cache import RESTLESS_SECONDS
from core.access.key_secrets import key_secrets
from core.admin import apps, cell_sessions, cells, keys, organizations, removal, whitelist
from core.admin.cell_sessions import CellSession, CellSessions
from core.admin.errors import AdministrationError, AlreadyExistsError, NotFoundError
from core.postgres import directory
from core.postgres.audit import Change
from core.postgres.directory import CellRecord, OrganizationPlace
from core.postgres.errors import DatabaseUnusableError
from core.postgres.sessions import IDLE_IN_TRANSACTION_SECONDS
from core.timestamps import to_datetime
from tests.support.database import connect
from tests.support.hanging_server import hanging_server
from tests.support.tenant import now_us

pytestmark = pytest.mark.anyio

STATEMENT_SECONDS = 10


class World(NamedTuple):
    """A home database with a cell ``north`` beside the home cell."""

    url: str
    home: AsyncConnection
    cells: CellSessions

    async def north(self) -> CellSession:
        """The other cell."""
        return await self.cells.named("north")

    async def settle(self, name: str, cell_name: str | None = "north") -> UUID:
        """A new organization."""
        _, made = await organizations.create_anywhere(self.cells, name, now_us(), cell_name)
        return made.id


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """Two cells in one database."""
    async with await connect(database_url) as home:
        record = cells.new_record("north", None, is_citus=False)
        await cells.add(home, database_url, record, now_us())
        async with CellSessions(home, database_url, STATEMENT_SECONDS) as sessions:
            yield World(database_url, home, sessions)


def change_of(organization_id: UUID) -> Change:
    """A change as the audit log has it."""
    return Change("test", organization_id, ids.text(ids.ORGANIZATION, organization_id))


async def heard(url: str, change: Callable[[], Awaitable[object]]) -> list[str]:
    """The announcements while something is changed."""
    async with await connect(url) as listener:
        await listener.execute(f"LISTEN {CHANNEL}")
        await change()
        # Of its own, after which there is nothing left to come.
        await listener.execute("SELECT pg_notify(%s, 'end')", (CHANNEL,))
        payloads = []
        async for notice in listener.notifies():
            if notice.payload == "end":
                break
            payloads.append(notice.payload)
    return payloads


async def test_new_organizations_go_to_the_open_cell_with_the_fewest(world: World) -> None:
    placed = []
    for number in range(6):
        cell, _ = await organizations.create_anywhere(world.cells, f"Org {number}", now_us())
        placed.append(cell.record.name)
    assert sorted(placed) == ["home"] * 3 + ["north"] * 3
    await cells.set_closed(world.home, "home", now_us(), is_closed=True)
    for number in range(6, 9):
        cell, _ = await organizations.create_anywhere(world.cells, f"Org {number}", now_us())
        assert cell.record.name == "north"
    with pytest.raises(AdministrationError, match="closed"):
        await organizations.create_anywhere(world.cells, "Org 9", now_us(), "home")
    await cells.set_closed(world.home, "north", now_us(), is_closed=True)
    with pytest.raises(AdministrationError, match="every cell is closed"):
        await organizations.create_anywhere(world.cells, "Org 9", now_us())


@pytest.mark.parametrize("first", ["home", "north"])
@pytest.mark.parametrize("second", ["home", "north", None])
async def test_a_name_is_given_once_in_all_cells(
    world: World, first: str, second: str | None
) -> None:
    await world.settle("Acme", first)
    other = await world.settle("Other", second)
    with pytest.raises(AlreadyExistsError, match="'Acme' exists already"):
        await world.settle("Acme", second)
    cell, _ = await organizations.find(world.cells, "Other")
    with pytest.raises(AlreadyExistsError, match="'Acme' exists already"):
        await organizations.update(cell, other, name="Acme")
    assert (await organizations.find(world.cells, "Other"))[1].id == other
    named = [one.name for _, one in await organizations.list_everywhere(world.cells)]
    assert named == ["Acme", "Other"]


async def test_an_interrupted_creation_is_finished_by_the_same_command(world: World) -> None:
    begun = OrganizationPlace(UUID(int=1), "Acme", "north")
    assert await directory.reserve(world.home, begun) == begun
    with pytest.raises(NotFoundError, match="was interrupted"):
        await organizations.find(world.cells, "Acme")
    with pytest.raises(AlreadyExistsError):
        await world.settle("Acme", "home")
    assert await world.settle("Acme", None) == begun.id
    cell, found = await organizations.find(world.cells, "Acme")
    assert (cell.record.name, found.id) == ("north", begun.id)
    with pytest.raises(AlreadyExistsError):
        await world.settle("Acme", None)


async def test_of_two_who_take_a_name_at_once_one_gets_it(world: World) -> None:
    async with (
        await connect(world.url) as other_home,
        CellSessions(other_home, world.url, STATEMENT_SECONDS) as others,
    ):
        for number in range(5):
            made = await asyncio.gather(
                *(
                    organizations.create_anywhere(sessions, f"Acme {number}", now_us(), "north")
                    for sessions in (world.cells, others)
                ),
                return_exceptions=True,
            )
            refused = [one for one in made if isinstance(one, BaseException)]
            assert [type(one) for one in refused] == [AlreadyExistsError]
    assert len(await organizations.list_everywhere(world.cells)) == 5


async def test_a_rename_is_of_the_cell_and_of_the_directory(world: World) -> None:
    organization_id = await world.settle("Acme")
    await organizations.update(await world.north(), organization_id, name="Zenith")
    with pytest.raises(NotFoundError):
        await organizations.find(world.cells, "Acme")
    assert (await organizations.find(world.cells, "Zenith"))[1].name == "Zenith"
    await world.settle("Acme", "home")


async def test_a_change_that_fails_leaves_the_directory_as_it_was(world: World) -> None:
    north, nobody = await world.north(), UUID(int=5)
    with pytest.raises(NotFoundError):
        await organizations.update(north, nobody, name="Nobody")
    assert await directory.find_organization(world.home, None, "Nobody") is None


async def test_every_change_of_rights_in_another_cell_is_announced_around(world: World) -> None:
    organization_id = await world.settle("Acme")
    north, owner = await organizations.find(world.cells, "Acme")
    app = await apps.create(north, owner, "hub", "Hub", ["deal.won"], now_us())
    secret = await key_secrets(world.home, None)
    key, _ = await keys.create(north, app, secret, now_us())

    async def shut_out() -> None:
        await organizations.update(north, organization_id, developer_api=False)

    async def rename() -> None:
        await organizations.update(north, organization_id, name="Zenith")

    async def allow() -> None:
        await whitelist.allow(north, organization_id, app.id, ["deal.lost"])

    async def deny() -> None:
        await whitelist.deny(north, organization_id, app.id, ["deal.lost"])

    async def revoke() -> None:
        await keys.revoke(north, key, now_us())

    for change in (shut_out, rename, allow, deny, revoke):
        payloads = await heard(world.url, change)
        assert set(payloads) == {str(organization_id)}, change
        assert len(payloads) >= 2, change


async def test_servers_hear_of_a_change_before_it_is_made_and_if_it_fails(world: World) -> None:
    organization_id = await world.settle("Acme")
    north = await world.north()

    async def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            async with north.changing(change_of(organization_id)):
                raise ZeroDivisionError

    assert await heard(world.url, fail) == [str(organization_id)] * 2
    async with await connect(world.url) as listener:
        await listener.execute(f"LISTEN {CHANNEL}")
        async with north.changing(change_of(organization_id)):
            async for notice in listener.notifies(stop_after=1, timeout=20):
                assert notice.payload == str(organization_id)
                break
            else:
                pytest.fail("nothing was announced before the change")


async def test_a_change_of_rights_takes_no_longer_than_servers_distrust_what_they_have(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_sessions, "_BOUND_CHANGE", "SET LOCAL statement_timeout = '50ms'")
    north = await world.north()
    with pytest.raises(QueryCanceled):
        async with north.changing(change_of(await world.settle("Acme"))):
            await north.db.execute("SELECT pg_sleep(60)")
    # Its maker may hang before its statement, and PostgreSQL then ends the transaction.
    longest = cell_sessions.CHANGE_SECONDS + IDLE_IN_TRANSACTION_SECONDS
    assert longest < RESTLESS_SECONDS


async def test_a_key_of_another_cell_is_known_at_home_before_it_is_shown(world: World) -> None:
    organization_id = await world.settle("Acme")
    north, owner = await organizations.find(world.cells, "Acme")
    app = await apps.create(north, owner, "hub", "Hub", ["deal.won"], now_us())
    secret = await key_secrets(world.home, None)
    record, key = await keys.create(north, app, secret, now_us())
    key_digest = digest(key, secret.in_force.value)
    [place] = (await directory.find_keys(world.home, [key_digest])).values()
    assert place == (organization_id, "north", True)
    for given in (key, ids.text(ids.KEY, record.id)):
        cell, found = await keys.find(world.cells, given, secret)
        assert (cell.record.name, found) == ("north", record)
    # One whose digest did not come that far was never shown, and can still be revoked.
    await directory.forget_key(world.home, key_digest)
    cell, found = await keys.find(world.cells, key, secret)
    assert (await keys.revoke(cell, found, now_us())).revoked_at is not None


async def test_a_secret_is_not_adopted_while_another_cell_has_keys(world: World) -> None:
    await world.settle("Acme")
    north, owner = await organizations.find(world.cells, "Acme")
    app = await apps.create(north, owner, "hub", "Hub", [], now_us())
    await keys.create(north, app, await key_secrets(world.home, None), now_us())
    secrets = await key_secrets(world.home, "a secret of the operator's own")
    assert secrets.in_force != secrets.wanted


async def test_an_app_is_found_in_whatever_cell_it_is(world: World) -> None:
    for name, cell_name, slug in (("A", "home", "one"), ("B", "north", "two"), ("C", None, "one")):
        await world.settle(name, cell_name)
        cell, owner = await organizations.find(world.cells, name)
        await apps.create(cell, owner, slug, slug, [], now_us())
    for given, where in (("two", "north"), ("B/two", "north"), ("A/one", "home")):
        cell, app = await apps.find_everywhere(world.cells, given)
        assert (cell.record.name, app.slug) == (where, given.rpartition("/")[2])
    with pytest.raises(NotFoundError, match="several organizations"):
        await apps.find_everywhere(world.cells, "one")
    with pytest.raises(NotFoundError, match="did you mean 'two'"):
        await apps.find_everywhere(world.cells, "twoo")
    listed = [(app.organization_name, app.slug) for app in await apps.list_everywhere(world.cells)]
    assert listed == [("A", "one"), ("B", "two"), ("C", "one")]


async def test_an_organization_of_another_cell_is_removed_with_its_keys_and_its_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0.0)
    organization_id = await world.settle("Acme")
    north, owner = await organizations.find(world.cells, "Acme")
    app = await apps.create(north, owner, "hub", "Hub", [], now_us())
    secret = await key_secrets(world.home, None)
    _, key = await keys.create(north, app, secret, now_us())
    # Interrupted before its last step, and then run again.
    with monkeypatch.context() as patched:

        async def crash(*_: object) -> None:
            raise psycopg.OperationalError("gone")

        patched.setattr(directory, "forget_organization", crash)
        with pytest.raises(psycopg.OperationalError):
            await removal.remove_organization(north, organization_id)
    assert await directory.find_organization(world.home, organization_id, None) is not None
    assert (await removal.remove_organization(north, organization_id)).is_finished
    assert await directory.find_organization(world.home, organization_id, None) is None
    assert await directory.find_keys(world.home, [digest(key, secret.in_force.value)]) == {}
    with pytest.raises(NotFoundError):
        await removal.remove_organization(north, organization_id)


async def test_a_cell_without_this_release_s_tables_is_told(world: World) -> None:
    async with await connect(world.url) as db:
        await db.execute("DELETE FROM north.cell_migrations")
    with pytest.raises(DatabaseUnusableError, match="run `wepeople-ingest migrate`"):
        await world.north()


async def test_a_list_waits_once_for_a_server_that_hangs(world: World) -> None:
    await world.settle("Acme")
    with hanging_server() as server:
        for name in ("east", "west"):
            cell = CellRecord(name, server.conninfo, name)
            assert await directory.add_cell(world.home, cell, to_datetime(now_us()))
        listed = await organizations.list_everywhere(world.cells)
        assert [organization.name for _, organization in listed] == ["Acme"]
        assert list(world.cells.left_out) == ["east", "west"]
        assert server.connections() == 1
