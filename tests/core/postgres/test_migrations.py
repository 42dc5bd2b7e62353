"""Migrations of data: what earlier releases have stored, by the rules of this one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from core import ids
from core.admin import workers
from core.postgres import directory
from core.postgres.directory import KeyPlace
from core.postgres.migrate import apply_all, available, migrate
from core.timestamps import to_datetime
from tests.support.database import connect
from tests.support.databases import new_database
from tests.support.tenant import now_us

pytestmark = pytest.mark.anyio

DAY_US = 86_400_000_000
ORGANIZATION, APP = UUID(int=1), UUID(int=2)

Db = AsyncConnection[Any]
At = Callable[[int], Awaitable[Db]]


@pytest.fixture
async def at(postgres: str) -> AsyncIterator[At]:
    """Makes a database as a release with so many migrations has left it, with an organization."""
    name = f"wepeople_migrations_{os.getpid()}"
    with new_database(postgres, name) as url:
        opened: list[Db] = []

        async def at(version: int) -> Db:
            opened.append(db := await connect(url))
            await apply_all(db, available("home")[:version])
            await db.execute(
                "INSERT INTO organizations VALUES (%s, 'Acme', true, NULL, 600, now())",
                (ORGANIZATION,),
            )
            return db

        yield at
        for db in opened:
            await db.close()


class Snapshots:
    """Stores snapshots as releases before 0004 did, each of a card of its own name."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def store(self, card: str, occurred_us: int, received_us: int, *, current: bool) -> UUID:
        row = (ORGANIZATION, UUID(int=3), APP, card, ids.new(received_us), to_datetime(occurred_us))
        await self._db.execute(
            "INSERT INTO snapshot_history (organization_id, worker_id, app_id, snapshot_type, id,"
            " occurred_at, metrics) VALUES (%s, %s, %s, %s, %s, %s, '{}')",
            row,
        )
        if current:
            await self._db.execute(
                "INSERT INTO snapshot_cards (organization_id, worker_id, app_id, snapshot_type,"
                " snapshot_id, occurred_at) VALUES (%s, %s, %s, %s, %s, %s)",
                row,
            )
        return row[4]


async def test_0004_takes_the_pins_off_cards(at: At) -> None:
    db, now = await at(3), now_us() // 1_000 * 1_000 + 321
    snapshots = Snapshots(db)
    # Without a timestamp, and of the past: the cards stay what they are.
    usual = await snapshots.store("usual", now, now, current=True)
    await snapshots.store("usual", now - 5_000, now + DAY_US, current=False)
    # Pinned by a wrong clock: of those received later, the newest.
    await snapshots.store("pinned", now + 9 * DAY_US, now, current=True)
    await snapshots.store("pinned", now - DAY_US, now + 3_000, current=False)
    newest = await snapshots.store("pinned", now + 2_000, now + 2_000, current=False)
    # Nothing came after it.
    alone = await snapshots.store("alone", now + DAY_US, now, current=True)

    await migrate(db.info.dsn)
    cursor = await db.execute(
        "SELECT snapshot_type, snapshot_id, occurred_at, received_at FROM snapshot_cards"
    )
    cards = {card: rest for card, *rest in await cursor.fetchall()}

    def received(us: int) -> object:
        return to_datetime(us // 1_000 * 1_000 + 999)

    assert cards == {
        "usual": [usual, to_datetime(now), received(now)],
        "pinned": [newest, to_datetime(now + 2_000), received(now + 2_000)],
        "alone": [alone, to_datetime(now + DAY_US), received(now)],
    }


async def make_worker(db: Db, number: int, email: str, organization_id: UUID = ORGANIZATION) -> str:
    """Store a worker as releases before 0005 did; a higher number is younger. Returns its id."""
    worker_id = ids.new(now_us())
    await db.execute(
        "INSERT INTO workers VALUES (%s, %s, 'A', %s, %s, to_timestamp(%s))",
        (organization_id, worker_id, email, email.lower(), number),
    )
    return ids.text(ids.WORKER, worker_id)


async def test_0005_folds_e_mails_and_merges_nobody(at: At) -> None:
    db, other = await at(4), UUID(int=9)
    await db.execute("INSERT INTO organizations VALUES (%s, 'B', true, NULL, 600, now())", (other,))
    younger = await make_worker(db, 5, "STRASSE@a.example")
    oldest = await make_worker(db, 4, "Straße@a.example")
    youngest = await make_worker(db, 6, "straſſe@a.example")
    await make_worker(db, 7, "strasse@a.example", other)  # of another organization
    await make_worker(db, 8, "ΝΊΚΟΣ@a.example")
    greek = await make_worker(db, 9, "νίκοσ@a.example")
    await make_worker(db, 1, "Zoë@a.example")
    await make_worker(db, 2, "Alex@a.example")

    applied = {one.name: one.notes for one in (await migrate(db.info.dsn)).applied}
    lines = applied["0005_email_keys.sql"]
    assert [line.split()[1] for line in lines] == [younger, youngest, greek]
    assert all(oldest in line for line in lines[:2])
    assert all(ids.text(ids.ORGANIZATION, ORGANIZATION) in line for line in lines)
    assert "@" not in "".join(lines)

    cursor = await db.execute("SELECT email, email_key FROM workers ORDER BY created_at")
    assert await cursor.fetchall() == [
        ("Zoë@a.example", "zoë@a.example"),
        ("Alex@a.example", "alex@a.example"),
        ("Straße@a.example", "strasse@a.example"),
        ("STRASSE@a.example", None),
        ("straſſe@a.example", None),
        ("strasse@a.example", "strasse@a.example"),
        ("ΝΊΚΟΣ@a.example", "νίκοσ@a.example"),
        ("νίκοσ@a.example", None),
    ]
    found = await workers.find(db, ORGANIZATION, "strasse@A.example")
    assert ids.text(ids.WORKER, found.id) == oldest
    assert ids.text(ids.WORKER, (await workers.find(db, ORGANIZATION, younger)).id) == younger


async def test_0009_knows_by_which_secret_the_keys_were_made(at: At) -> None:
    db = await at(8)
    await db.execute("UPDATE deployment SET key_secret_check = 'check'")
    await db.execute("INSERT INTO directory_keys VALUES ('a', %s, 'home')", (ORGANIZATION,))
    await apply_all(db, available("home"))
    found = await directory.find_keys(db, [b"a"])
    assert found == {b"a": KeyPlace(ORGANIZATION, "home", True)}
    # The release before goes on beside it, and does not tell the secret.
    await db.execute(
        "INSERT INTO directory_keys (digest, organization_id, cell) VALUES ('b', %s, 'home')",
        (ORGANIZATION,),
    )
    assert await directory.outdated_digests(db) == [(b"b", None)]
