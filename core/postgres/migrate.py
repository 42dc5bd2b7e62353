"""Schema migrations: plain SQL files, applied in order, once, by one process at a time.

A released file never changes; its checksum in the database proves it. Each file is applied in one
transaction with the row that records it, and with the step that it has in Python if SQL cannot do
all of it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from psycopg import errors, sql

from core.clock import Clock
from core.postgres import email_keys
from core.postgres.errors import DatabaseUnusableError
from core.postgres.partitions import ensure_partitions
from core.postgres.sessions import Connection, connect

log = logging.getLogger(__name__)

_ADVISORY_LOCK: Final = 7_227_001  # any fixed number; one process at a time migrates
LOCK_WAIT_SECONDS: Final = 60

_CREATE_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
)
"""

# By version. A step returns lines for the operator.
_STEPS: Final[Mapping[int, Callable[[Connection], Awaitable[list[str]]]]] = {5: email_keys.fold}

_HAS_VERSION: Final = "SELECT EXISTS (SELECT FROM schema_migrations WHERE version = %s)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file of ``core/postgres/migrations``: ``0001_initial.sql`` is version 1."""

    version: int
    name: str
    statements: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(self.statements.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Applied:
    """A file that was applied, and what its operator should know of the data."""

    name: str
    notes: Sequence[str] = ()


@cache
def available() -> Sequence[Migration]:
    """The migrations of this release, oldest first."""
    folder = resources.files("core.postgres") / "migrations"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name
    )
    return [
        Migration(int(file.name.split("_", 1)[0]), file.name, file.read_text("utf-8"))
        for file in files
    ]


async def migrate(conninfo: str, clock: Clock | None = None) -> list[Applied]:
    """Bring the database to this release's schema; returns the files applied.

    Makes the partitions of this month and the next ones, too. A newer database stays as it is:
    migrations only expand, so that this release can be rolled back to. Raises
    :class:`DatabaseUnusableError` if an applied file was changed since.
    """
    async with await connect(conninfo) as db:
        await db.execute(
            sql.SQL(
                "SET lock_timeout = {}; SET statement_timeout = 0; "
                "SET idle_in_transaction_session_timeout = 0"
            ).format(sql.Literal(f"{LOCK_WAIT_SECONDS}s"))
        )
        await db.execute("SELECT pg_advisory_lock(%s)", (_ADVISORY_LOCK,))
        await db.execute(_CREATE_LEDGER)
        applied = [await _apply(db, migration) for migration in await _pending(db)]
        await ensure_partitions(db, (clock or Clock()).now_us())
        return applied


async def _apply(db: Connection, migration: Migration) -> Applied:
    step = _STEPS.get(migration.version)
    async with db.transaction():
        await db.execute(migration.statements.encode())
        notes = await step(db) if step else []
        await db.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
            (migration.version, migration.name, migration.checksum),
        )
    return Applied(migration.name, notes)


async def _pending(db: Connection) -> list[Migration]:
    known = {migration.version: migration for migration in available()}
    rows = await db.execute("SELECT version, name, checksum FROM schema_migrations")
    applied = {int(str(version)): (name, checksum) async for version, name, checksum in rows}
    for version, (name, checksum) in sorted(applied.items()):
        if version not in known:
            log.warning("the database has %s of a newer release, which leaves it usable", name)
        elif known[version].checksum != checksum:
            raise DatabaseUnusableError(
                f"migration {name} was changed after it was applied: restore the original file"
            )
    return [migration for version, migration in sorted(known.items()) if version not in applied]


async def is_migrated(db: Connection) -> bool:
    """Whether the database has every migration of this release.

    It may have newer ones: older replicas go on while an upgrade is rolled out.
    """
    try:
        row = await (await db.execute(_HAS_VERSION, (available()[-1].version,))).fetchone()
    except errors.UndefinedTable:
        return False
    return row is not None and row[0] is True
