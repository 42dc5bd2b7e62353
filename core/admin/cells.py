"""Cells as operators add, list and close them: the schemas that hold whole organizations."""

from __future__ import annotations

from typing import Final, NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from core.admin.errors import (
    AdministrationError,
    AlreadyExistsError,
    InvalidValueError,
    NotFoundError,
    not_found,
)
from core.failure_log import one_line
from core.postgres import audit, citus, directory
from core.postgres.audit import SERVICE, Actor, Change
from core.postgres.directory import MAX_CELLS, MAX_NAME_CHARACTERS, CellRecord
from core.postgres.migrate import migrate_cell, only_migrator
from core.postgres.sessions import Connection, check_server, connect
from core.timestamps import to_datetime


class CellDetails(NamedTuple):
    """A cell, and the number of organizations in it."""

    record: CellRecord
    organizations: int

    @property
    def database(self) -> str:
        """The place of its database, without a password: HOST:PORT/NAME, or the home database."""
        if self.record.conninfo is None:
            return "home"
        given = conninfo_to_dict(self.record.conninfo)
        port = f":{given['port']}" if given.get("port") else ""
        name = f"/{given['dbname']}" if given.get("dbname") else ""
        return f"{given.get('host') or given.get('hostaddr') or 'localhost'}{port}{name}"


def new_record(name: str, conninfo: str | None, *, is_citus: bool) -> CellRecord:
    """The record of a cell that can be added; InvalidValueError says why not."""
    if not directory.is_cell_name(name):
        raise InvalidValueError(
            f"the name {name!r} must be 1 to {MAX_NAME_CHARACTERS} characters of a-z 0-9 _ that "
            "start with a letter, and not with pg_: it becomes the name of a schema"
        )
    try:
        conninfo_to_dict(conninfo or "")
    except psycopg.ProgrammingError as error:
        raise InvalidValueError(f"--database-url is none: {one_line(error)}") from None
    return CellRecord(name, conninfo, name, is_citus)


# The schema is there; it has tables; it has a cell's; it is the home of a service.
_LOOK: Final = """
SELECT count(pg_namespace.oid) > 0, count(pg_class.oid) > 0,
    count(*) FILTER (WHERE relname = 'cell_migrations') > 0,
    count(*) FILTER (WHERE relname = 'deployment') > 0
FROM pg_namespace LEFT JOIN pg_class ON relnamespace = pg_namespace.oid
WHERE nspname = %s
"""
# The search path of a home cell's sessions begins with the schema that is called as their role is.
_IS_FOUND_UNASKED: Final = """
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(name)s) OR %(name)s = ANY (
    string_to_array(translate(current_setting('search_path'), ' "', ''), ','))
"""
_CREATE: Final = "CREATE SCHEMA {}"
_IS_USED: Final = "SELECT EXISTS (SELECT FROM organizations)"
# Of the home database, for good, and nothing that tells its secret.
_MARK: Final = """
SELECT 'cell of ' || encode(sha256('home'::bytea || key_secret), 'hex') FROM deployment
"""
_MARK_FOUND: Final = "SELECT obj_description('cell_migrations'::regclass, 'pg_class')"
_SET_MARK: Final = "COMMENT ON TABLE cell_migrations IS {}"


async def add(
    home: Connection, home_conninfo: str, cell: CellRecord, now_us: int, actor: Actor = SERVICE
) -> None:
    """Make a cell's schema and its tables, and enter it: it takes new organizations from now on.

    If that is interrupted, it can be run again to finish. AlreadyExistsError if there is a cell of
    that name, AdministrationError if the schema holds something else. ``DatabaseUnusableError`` and
    psycopg's errors tell why its database cannot be used.
    """
    if await directory.find_cell(home, cell.name) is not None:
        raise AlreadyExistsError(f"a cell {cell.name!r} exists already")
    conninfo = cell.conninfo or home_conninfo
    async with only_migrator(home_conninfo):
        if len(await directory.list_cells(home)) >= MAX_CELLS:
            raise AdministrationError(f"there are {MAX_CELLS} cells, and may be no more")
        async with await connect(conninfo) as db, await connect(conninfo) as other:
            await check_server(db, other)
            await _make_schema(db, cell)
        await migrate_cell(cell, home_conninfo, now_us)
        async with await directory.connect_to(cell, home_conninfo) as db:
            row = await (await db.execute(_IS_USED)).fetchone()
            if row is not None and row[0]:
                raise _taken(cell.name, "organizations of another service")
            await _mark(db, home, cell)
        change = Change("cell.add", None, cell.name)
        change.after = {"database": CellDetails(cell, 0).database, "citus": cell.is_citus}
        async with home.transaction():
            if not await directory.add_cell(home, cell, to_datetime(now_us)):
                raise AlreadyExistsError(f"a cell {cell.name!r} exists already")
            await audit.record(home, actor, change)


async def _make_schema(db: Connection, cell: CellRecord) -> None:
    row = await (await db.execute(_LOOK, (cell.name,))).fetchone()
    assert row is not None
    is_there, has_tables, is_cell, is_home = row
    if is_home or (has_tables and not is_cell):
        raise _taken(cell.name, "tables of something else")
    row = await (await db.execute(_IS_FOUND_UNASKED, {"name": cell.name})).fetchone()
    if row is not None and row[0]:
        raise AdministrationError(
            f"{cell.name!r} is the name of a role, or in the search path: sessions of other cells "
            "would find this one's tables in place of theirs; choose another name"
        )
    if cell.is_citus:
        await citus.create_schema(db, cell.name)
    elif not is_there:
        await db.execute(sql.SQL(_CREATE).format(sql.Identifier(cell.name)))


async def _mark(db: Connection, home: Connection, cell: CellRecord) -> None:
    """Take the cell for this home database: another's retention would drop events of this one's."""
    mark = await (await home.execute(_MARK)).fetchone()
    found = await (await db.execute(_MARK_FOUND)).fetchone()
    if mark is None or found is None or found[0] not in (None, mark[0]):
        raise _taken(cell.name, "a cell of another service")
    await db.execute(sql.SQL(_SET_MARK).format(sql.Literal(mark[0])))


def _taken(schema: str, holds: str) -> AdministrationError:
    return AdministrationError(f"the schema {schema!r} has {holds}: choose another name")


async def list_all(home: Connection) -> list[CellDetails]:
    """Every cell, the home cell first."""
    counts = await directory.count_organizations(home)
    return [
        CellDetails(cell, counts.get(cell.name, 0)) for cell in await directory.list_cells(home)
    ]


async def find(home: Connection, name: str) -> CellDetails:
    """The cell of that name; NotFoundError if there is none."""
    cells = await list_all(home)
    for cell in cells:
        if cell.record.name == name:
            return cell
    names = [cell.record.name for cell in cells]
    raise not_found("cell", name, names, "`wepeople-ingest cells list` shows those there are")


async def set_closed(
    home: Connection, name: str, now_us: int, *, is_closed: bool, actor: Actor = SERVICE
) -> CellDetails:
    """Close a cell to new organizations, or open it again. Those in it go on."""
    closed_at = to_datetime(now_us) if is_closed else None
    change = Change("cell.close" if is_closed else "cell.open", None, name)
    async with home.transaction():
        before = await find(home, name)
        if not await directory.set_closed(home, name, closed_at):
            raise NotFoundError(f"there is no cell {name!r}")
        change.before, change.after = {"closed": before.record.is_closed}, {"closed": is_closed}
        await audit.record(home, actor, change)
    return await find(home, name)
