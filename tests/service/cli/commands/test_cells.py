"""``wepeople-ingest cells``, and every other command for organizations of another cell than home.

The other cell is a schema of the home database, and then one on a server of its own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.service.cli.command import KEY, WAIT_SECONDS, Run, process, send
from tests.support.databases import new_database
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.running_service import RunningService
from tests.support.waiting import wait_until

NORTH = "north"


@pytest.fixture(scope="module")
def other_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server beside the home database's."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def other_database(other_server: PostgresServer) -> Iterator[str]:
    """A database of the test's own on it."""
    with new_database(other_server.conninfo, "wepeople_cells") as url:
        yield url


@pytest.fixture(params=["schema", "server"])
def north(request: pytest.FixtureRequest, run: Run) -> str:
    """The other cell."""
    where: tuple[str, ...] = ()
    if request.param == "server":
        where = ("--database-url", request.getfixturevalue("other_database"))
    assert run("cells", "add", NORTH, *where, "--json").json()["state"] == "open"
    return NORTH


@pytest.fixture
def key_in_north(run: Run, north: str) -> str:
    """A key of the app crm-hub of Acme, which lives in the other cell."""
    made = run("org", "create", "Acme", "--quota", "10", "--cell", north, "--json").json()
    assert made["cell"] == north
    types = ("--allow", "ticket.resolved")
    run("app", "create", "Acme", "crm-hub", "--name", "CRM Hub", *types)
    key = run("key", "create", "crm-hub", "--json").json()["key"]
    assert KEY.fullmatch(key)
    return str(key)


def test_every_command_works_for_an_organization_of_another_cell(
    run: Run, key_in_north: str, database_url: str
) -> None:
    key = key_in_north
    run("org", "create", "Zoo", "--cell", "home")
    run("worker", "create", "Acme", "--name", "Alex Chen", "--email", "alex@acme.example")
    listed = {one["name"]: one["cell"] for one in run("org", "list", "--json").json()}
    assert listed == {"Acme": NORTH, "Zoo": "home"}
    assert "CELL" in run("org", "list").out
    assert [one["slug"] for one in run("app", "list", "--json").json()] == ["crm-hub"]
    with RunningService(database_url) as server:
        actor = {"email": "alex@acme.example"}
        assert send(server.addresses.http, key, 3, actor=actor).status_code == 202
        snapshot = {"snapshotType": "load", "actor": actor, "metrics": {"open": 1}}
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{server.addresses.http}/api/v1/ingest/snapshots"
        assert httpx.post(url, json=snapshot, headers=headers).status_code == 202
        assert run("usage", "Acme", "--json").json()["used"] == 4
        found = run("events", "Acme", "--app", "crm-hub", "--worker", actor["email"], "--json")
        assert len(found.json()) == 3
        [card] = run("snapshots", "Acme", "--worker", actor["email"], "--json").json()
        assert card["worker"]["displayName"] == "Alex Chen"
        run("org", "update", "Acme", "--quota", "100")
        with process("events", "Acme", "--follow", "--limit", "1", "--json") as follower:
            assert follower.stdout is not None
            latest = json.loads(follower.stdout.readline())
            assert latest == found.json()[0]
            assert send(server.addresses.http, key, 1).status_code == 202
            assert json.loads(follower.stdout.readline())["id"] > latest["id"]
        run("app", "allow", "Acme/crm-hub", "deal.won")
        wait_until(
            lambda: send(server.addresses.http, key, 1, eventType="deal.won").status_code == 202,
            "the type is allowed",
            seconds=WAIT_SECONDS,
        )
        assert run("key", "revoke", key, "--json").json()["state"] == "revoked"
        wait_until(
            lambda: send(server.addresses.http, key, 1).status_code == 401,
            "the key is revoked",
            seconds=WAIT_SECONDS,
        )
    [listed_key] = run("key", "list", "--json").json()
    assert listed_key["state"] == "revoked"
    assert listed_key.pop("needsPreviousSecret") is False
    assert run("key", "revoke", listed_key["id"], "--json").json() == listed_key


def test_a_load_is_stored_in_the_chosen_cell_and_removed_from_it(
    run: Run, north: str, database_url: str
) -> None:
    with RunningService(database_url) as server:
        load = ("--batch", "5", "--concurrency", "1", "--seconds", "0.5", "--rounds", "1")
        result = run("bench", "--server", server.addresses.http, "--cell", north, *load, "--json")
        assert result.code == 0, result.err
        measured = {line["name"]: line for line in json.loads(result.out)["measurements"]}
        assert measured["http"]["eventsPerSecond"] > 0
        assert measured["copy"]["eventsPerSecond"] > 0
    assert run("org", "list", "--json").json() == []
    assert run("cells", "list", "--json").json()[1]["organizations"] == 0


def test_with_one_cell_nothing_tells_of_cells(run: Run) -> None:
    made = run("org", "create", "Acme", "--json").json()
    assert "cell" not in made
    assert "CELL" not in run("org", "list").out
    assert "cell" not in run("org", "show", "Acme").out
    [home] = run("cells", "list", "--json").json()
    assert home == {
        "name": "home",
        "state": "open",
        "organizations": 1,
        "kind": "postgresql",
        "database": "home",
    }


def test_a_dead_cell_is_left_out_of_lists_and_named(
    run: Run, other_server: PostgresServer, other_database: str
) -> None:
    run("cells", "add", NORTH, "--database-url", other_database)
    run("org", "create", "Acme", "--cell", NORTH)
    run("org", "create", "Zoo", "--cell", "home")
    run("app", "create", "Zoo", "hub", "--name", "Hub")
    other_server.kill()
    try:
        for noun, count in (("org", 1), ("app", 1), ("key", 0)):
            listed = run(noun, "list", "--json")
            assert listed.code == 0
            assert len(json.loads(listed.out)) == count
            assert listed.err.startswith("the cell north is left out: ")
            assert listed.err.count("\n") == 1
        assert run("org", "show", "Zoo", "--json").json()["cell"] == "home"
        dead = run("org", "show", "Acme")
        assert (dead.code, dead.err.count("\n")) == (1, 1)
        assert "the cell north does not answer: " in dead.err
        found = run("key", "create", "hub", "--json")  # might be an app's of the dead cell, too
        assert found.code == 0
        assert "north" in found.err
        key_id = "key_01ARZ3NDEKTSV4RRFFQ69G5FAV"
        for arguments in (("key", "revoke", key_id), ("app", "allow", "no", "deal.won")):
            unknown = run(*arguments)
            assert unknown.code == 1
            assert "it is in none of the cells that answer" in unknown.err
        migrated = run("migrate")
        assert "the cell north is not up to date" in migrated.out
    finally:
        other_server.start()
    assert run("org", "show", "Acme", "--json").json()["cell"] == NORTH


def test_a_url_can_come_from_standard_input_and_its_password_is_not_shown(
    run: Run, other_server: PostgresServer, other_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{other_database}\n"))
    added = run("cells", "add", NORTH, "--database-url", "-")
    listed = run("cells", "list")
    for result in (added, listed):
        assert result.code == 0, result.err
        assert f"127.0.0.1:{other_server.port}/wepeople_cells" in result.out
        assert other_server.password not in result.out + result.err
    monkeypatch.setattr("sys.stdin", None)
    assert run("cells", "add", "south", "--database-url", "-").code == 2


def test_what_cannot_be_a_cell_is_explained(run: Run) -> None:
    for arguments, code, reason in (
        (("add", "No-Name"), 2, "becomes the name of a schema"),
        (("add", NORTH, "--database-url", "no url at all"), 2, "--database-url"),
        (("add", NORTH, "--database-url", "postgresql://127.0.0.1:1/x"), 1, "the database"),
        (("add", NORTH, "--citus"), 1, "not on Citus"),
        (("add", "home"), 1, "exists already"),
        (("close", "hom"), 1, "did you mean 'home'"),
    ):
        result = run("cells", *arguments)
        assert (result.code, result.out, result.err.count("\n")) == (code, "", 1), result
        assert reason in result.err
    assert len(run("cells", "list", "--json").json()) == 1


def test_a_closed_cell_takes_no_new_organizations(run: Run, north: str) -> None:
    assert run("cells", "close", "home", "--json").json()["state"] == "closed"
    assert run("org", "create", "Acme", "--json").json()["cell"] == north
    refused = run("org", "create", "Zoo", "--cell", "home")
    assert (refused.code, refused.out) == (1, "")
    assert "closed" in refused.err
    assert run("cells", "close", "home", "--open", "--json").json()["state"] == "open"
    assert run("org", "create", "Zoo", "--json").json()["cell"] == "home"
