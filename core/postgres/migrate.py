"""Schema migrations: plain SQL files, applied in order, once, by one process at a time.

A released file never changes; its checksum in the database proves it. Each file is applied in one
transaction with the row that records it, and with the step that it has in Python if SQL cannot do
all of it. The files of ``migrations/home`` are for the home database. Those of ``migrations/cell``
are for every cell, each of which keeps a ledger of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Literal

import psycopg
from psycopg import errors, sql

from core.clock import Clock
from core.failure_log import one_line
from core.postgres import directory, email_keys
from core.postgres.directory import CellRecord
from core.postgres.errors import DatabaseUnusableError
from core.postgres.partitions import ensure_partitions
from core.postgres.sessions import SESSION_SECONDS, Connection, connect, cut_after

log = logging.getLogger(__name__)

_ADVISORY_LOCK: Final = 7_227_001  # any fixed number; one process at a time migrates
LOCK_WAIT_SECONDS: Final = 60
MAX_CELLS_AT_ONCE: Final = 8  # that are brought up to date, each by one session
CELL_SECONDS: Final = 600.0  # for one cell; a server that hangs cannot bound it itself

Kind = Literal["home", "cell"]
_LEDGERS: Final[Mapping[Kind, sql.Identifier]] = {
    "home": sql.Identifier("schema_migrations"),
    "cell": sql.Identifier("cell_migrations"),
}

_CREATE_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS {} (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
)
"""
_APPLIED: Final = "SELECT version, name, checksum FROM {}"
_RECORD: Final = "INSERT INTO {} (version, name, checksum) VALUES (%s, %s, %s)"
_HAS_VERSION: Final = "SELECT EXISTS (SELECT FROM {} WHERE version = %s)"
_LONG_WORK: Final = (
    f"SET lock_timeout = '{LOCK_WAIT_SECONDS}s'",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
)
_STATEMENT_END: Final = re.compile(r"(?<=;)\n")


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file: ``home/0001_initial.sql`` is version 1 of its kind."""

    kind: Kind
    version: int
    name: str
    statements: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(self.statements.encode()).hexdigest()

    @property
    def pieces(self) -> Sequence[str]:
        """The strings that are sent one after the other: one statement each in a cell.

        Citus takes no more at a time.
        """
        if self.kind == "home":
            return [self.statements]
        return [piece for piece in _STATEMENT_END.split(self.statements) if piece.strip()]


@dataclass(frozen=True, slots=True)
class Applied:
    """A file that was applied, and what its operator should know of the data."""

    name: str
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Migrated:
    """The files that were applied, and a line about each cell that could not be brought up to date.

    Such a cell serves nothing until it is.
    """

    applied: Sequence[Applied]
    left: Sequence[str] = ()

    @property
    def lines(self) -> Sequence[str]:
        """All that an operator should know."""
        return [*(line for one in self.applied for line in one.notes), *self.left]


@cache
def available(kind: Kind) -> Sequence[Migration]:
    """The migrations of this release for the home database or for a cell, oldest first."""
    folder = resources.files("core.postgres") / "migrations" / kind
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name
    )
    return [
        Migration(kind, int(file.name.split("_", 1)[0]), file.name, file.read_text("utf-8"))
        for file in files
    ]


async def _record_home_cell(db: Connection) -> list[str]:
    """Record that the files before have made the home cell, as a cell's first file would."""
    await _record(db, available("cell")[0])
    return []


# By version, for the home database. A step returns lines for the operator.
_STEPS: Final[Mapping[int, Callable[[Connection], Awaitable[list[str]]]]] = {
    5: email_keys.fold,
    6: _record_home_cell,
}


async def migrate(conninfo: str, clock: Clock | None = None) -> Migrated:
    """Bring the home database and every cell to this release's schema.

    Makes the partitions of this month and the next ones, too. A newer database stays as it is:
    migrations only expand, so that this release can be rolled back to. Raises
    :class:`DatabaseUnusableError` if an applied file was changed since. A cell that fails or cannot
    be reached does not hinder the others.
    """
    now_us = (clock or Clock()).now_us()
    async with only_migrator(conninfo) as db:
        applied = await apply_all(db, available("home"))
        applied += await apply_all(db, available("cell"))
        await ensure_partitions(db, now_us)
        cells = [cell for cell in await directory.list_cells(db) if cell.name != directory.HOME]
        at_once = asyncio.Semaphore(MAX_CELLS_AT_ONCE)
        hanging: dict[str | None, str] = {}  # servers, and what was said of each

        async def bring(cell: CellRecord) -> Migrated:
            async with at_once:
                return await _bring(cell, conninfo, now_us, hanging)

        done = await asyncio.gather(*map(bring, cells))
    return Migrated(
        [*applied, *(one for cell in done for one in cell.applied)],
        [line for cell in done for line in cell.left],
    )


@contextlib.asynccontextmanager
async def only_migrator(conninfo: str) -> AsyncIterator[Connection]:
    """A session of the home database; no other process migrates it or a cell within the block."""
    async with await connect(conninfo) as db:
        await _prepare(db)
        await db.execute("SELECT pg_advisory_lock(%s)", (_ADVISORY_LOCK,))
        yield db


async def _bring(
    cell: CellRecord, home_conninfo: str, now_us: int, hanging: dict[str | None, str]
) -> Migrated:
    """Bring a cell up to date; one on a server that has let another cell wait is not tried."""
    reason = hanging.get(cell.conninfo)
    if reason is None:
        try:
            return Migrated(await migrate_cell(cell, home_conninfo, now_us))
        except (psycopg.Error, DatabaseUnusableError, OSError) as error:
            reason = one_line(error)
            if isinstance(error, errors.ConnectionTimeout):
                hanging[cell.conninfo] = reason
    return Migrated([], [f"the cell {cell.name} is not up to date: {reason}"])


async def migrate_cell(cell: CellRecord, home_conninfo: str, now_us: int) -> list[Applied]:
    """Bring one cell to this release's schema, which is there; the names are told with the cell's.

    Gives up after ``CELL_SECONDS``. Raises psycopg's errors, and :class:`DatabaseUnusableError` as
    :func:`migrate` does.
    """
    async with await directory.connect_to(cell, home_conninfo) as db:
        with cut_after(db, CELL_SECONDS):
            await _prepare(db)
            applied = await apply_all(db, available("cell"))
            await ensure_partitions(db, now_us)
    return [Applied(f"{cell.name}: {one.name}", one.notes) for one in applied]


async def _prepare(db: Connection) -> None:
    for statement in _LONG_WORK:
        await db.execute(statement)


async def apply_all(db: Connection, migrations: Sequence[Migration]) -> list[Applied]:
    """Apply those of one kind's files that the database does not have; no other process may."""
    with cut_after(db, SESSION_SECONDS):  # a server that hangs must not hinder the others
        pending = await _pending(db, migrations)
    return [await _apply(db, migration) for migration in pending]


async def _apply(db: Connection, migration: Migration) -> Applied:
    step = _STEPS.get(migration.version) if migration.kind == "home" else None
    async with db.transaction():
        for piece in migration.pieces:
            await db.execute(piece.encode())
        notes = await step(db) if step else []
        await _record(db, migration)
    return Applied(migration.name, notes)


async def _record(db: Connection, migration: Migration) -> None:
    ledger = _LEDGERS[migration.kind]
    await db.execute(sql.SQL(_CREATE_LEDGER).format(ledger))
    await db.execute(
        sql.SQL(_RECORD).format(ledger), (migration.version, migration.name, migration.checksum)
    )


async def _pending(db: Connection, migrations: Sequence[Migration]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations}
    applied = await _applied(db, migrations[0].kind)
    for version, (name, checksum) in sorted(applied.items()):
        if version not in known:
            log.warning("the database has %s of a newer release, which leaves it usable", name)
        elif known[version].checksum != checksum:
            raise DatabaseUnusableError(
                f"migration {name} was changed after it was applied: restore the original file"
            )
    return [migration for version, migration in sorted(known.items()) if version not in applied]


async def _applied(db: Connection, kind: Kind) -> dict[int, tuple[str, str]]:
    """The names and checksums of the files that were applied, by version."""
    try:
        cursor = await db.execute(sql.SQL(_APPLIED).format(_LEDGERS[kind]))
    except errors.UndefinedTable:
        return {}
    return {version: (name, checksum) for version, name, checksum in await cursor.fetchall()}


async def is_migrated(db: Connection) -> bool:
    """Whether the home database has every migration of this release, and the home cell, too.

    It may have newer ones: older replicas go on while an upgrade is rolled out.
    """
    return await _has_last(db, "home") and await is_cell_migrated(db)


async def is_cell_migrated(db: Connection) -> bool:
    """As :func:`is_migrated`, for a session of a cell."""
    return await _has_last(db, "cell")


async def _has_last(db: Connection, kind: Kind) -> bool:
    statement = sql.SQL(_HAS_VERSION).format(_LEDGERS[kind])
    try:
        row = await (await db.execute(statement, (available(kind)[-1].version,))).fetchone()
    except errors.UndefinedTable:
        return False
    return row is not None and row[0] is True
