"""Sessions of the cells, for operators' work: each opened when it is first needed.

An organization is found in the directory, and then worked on in its cell. Lists go over all cells;
one that does not answer is left out, and named in :attr:`CellSessions.left_out`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from contextlib import AsyncExitStack
from typing import Final, NamedTuple, Self, TypeVar
from uuid import UUID

from core.access.invalidation import CHANNEL
from core.admin.cell_connections import FAILURES, connect, connect_migrated
from core.admin.errors import AdministrationError, AlreadyExistsError, not_found
from core.failure_log import one_line
from core.postgres import audit, directory
from core.postgres.audit import SERVICE, Actor, Change
from core.postgres.directory import HOME, CellRecord
from core.postgres.errors import DatabaseUnusableError
from core.postgres.search_path import use_schema
from core.postgres.sessions import Connection

T = TypeVar("T")

# Of a change of rights in another cell than home. Servers hear of it before and after, and distrust
# what they have cached of the organization for longer: core/access/key_cache.py: RESTLESS_SECONDS.
CHANGE_SECONDS: Final = 10
MAX_NODES_AT_ONCE: Final = 8  # that a list is read from, by one session each

_ANNOUNCE: Final = "SELECT pg_notify(%s, %s)"
_BOUND_CHANGE: Final = f"SET LOCAL statement_timeout = '{CHANGE_SECONDS}s'"


class CellSession(NamedTuple):
    """A cell, a session of it, and one of the home database: the same one for the home cell.

    Both are in autocommit mode. ``actor``: whoever makes the changes, for the audit log.
    """

    record: CellRecord
    db: Connection
    home: Connection
    actor: Actor = SERVICE

    @property
    def is_home(self) -> bool:
        """Whether it is the home cell, whose triggers keep the directory and announce changes."""
        return self.db is self.home

    @contextlib.asynccontextmanager
    async def recording(self, change: Change) -> AsyncIterator[None]:
        """A transaction that makes a change, with its entry in the audit log."""
        async with self._audited(change), self._transaction():
            yield

    @contextlib.asynccontextmanager
    async def changing(self, change: Change, new_name: str | None = None) -> AsyncIterator[None]:
        """As :meth:`recording`, of an organization's rights or name; servers hear of it.

        They hear before and after, so that no moment of a crash leaves them a right for long. The
        name is changed in the directory as soon as the block is committed. Raises
        :class:`AlreadyExistsError` if it is another's.
        """
        if self.is_home:
            async with self.recording(change):
                yield
            return
        organization_id = change.organization_id
        assert organization_id is not None
        async with (
            self._announced(organization_id),
            self._audited(change),
            self._renaming(organization_id, new_name),
            self._transaction(),
        ):
            yield

    @contextlib.asynccontextmanager
    async def shutting_out(self, organization_id: UUID) -> AsyncIterator[None]:
        """As :meth:`changing`, of the first step of :meth:`recording_steps`, whose entry it is."""
        if self.is_home:
            async with self.home.transaction():
                yield
            return
        async with self._announced(organization_id), self._transaction():
            yield

    @contextlib.asynccontextmanager
    async def recording_steps(self, change: Change) -> AsyncIterator[None]:
        """A block of several transactions that make a change together.

        Its entry in the audit log says that it was only begun until the block ends.
        """
        entry = await audit.begin(self.home, self.actor, change)
        try:
            yield
        except AdministrationError:  # refused, so that nothing was changed
            await audit.withdraw(self.home, entry)
            raise
        await audit.finish(self.home, entry, change)

    @contextlib.asynccontextmanager
    async def _audited(self, change: Change) -> AsyncIterator[None]:
        if self.is_home:
            async with self.home.transaction():
                yield
                await audit.record(self.home, self.actor, change)
            return
        entry = await audit.begin(self.home, self.actor, change)
        try:
            yield
        except Exception:
            if not self.db.closed:  # else the change may have been committed
                await audit.withdraw(self.home, entry)
            raise
        await audit.finish(self.home, entry, change)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        if self.is_home:  # the entry's is the change's, too
            yield
            return
        async with self.db.transaction():
            await self.db.execute(_BOUND_CHANGE)
            yield

    @contextlib.asynccontextmanager
    async def _renaming(self, organization_id: UUID, name: str | None) -> AsyncIterator[None]:
        if name is None:
            yield
            return
        # Nobody else gets the name meanwhile. After a crash in between, the organization is still
        # found by its old one.
        async with self.home.transaction():
            try:
                await directory.rename(self.home, organization_id, name)
            except directory.NameTakenError as error:
                raise name_taken(name) from error
            yield

    @contextlib.asynccontextmanager
    async def _announced(self, organization_id: UUID) -> AsyncIterator[None]:
        values = (CHANNEL, str(organization_id))
        await self.home.execute(_ANNOUNCE, values)
        try:
            yield
        finally:
            await self.home.execute(_ANNOUNCE, values)


def at_home(db: Connection, actor: Actor = SERVICE) -> CellSession:
    """The home cell, by a session of the home database."""
    return CellSession(CellRecord(HOME), db, db, actor)


def name_taken(name: str) -> AlreadyExistsError:
    """The refusal of a name that another organization has, in whatever cell."""
    return AlreadyExistsError(f"an organization named {name!r} exists already")


class CellSessions:
    """The cells of a home database; a context manager that closes the sessions in the end.

    ``home``: a session of the home database, which stays open. ``conninfo``: its connection string.
    ``statement_seconds``: for statements in other cells. ``actor``: whoever makes the changes.
    ``left_out``: the names of the cells that a list was not read from, each with a line about it.
    """

    def __init__(
        self,
        home: Connection,
        conninfo: str,
        statement_seconds: int,
        actor: Actor = SERVICE,
    ) -> None:
        self.home = home
        self.actor = actor
        self.left_out: dict[str, str] = {}
        self._conninfo = conninfo
        self._statement_seconds = statement_seconds
        self._open: dict[str, CellSession] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def named(self, name: str) -> CellSession:
        """The cell of that name.

        Raises :class:`NotFoundError`, and :class:`DatabaseUnusableError` if it does not answer.
        """
        record = await directory.find_cell(self.home, name)
        if record is None:
            names = [cell.name for cell in await directory.list_cells(self.home)]
            raise not_found("cell", name, names, "`wepeople-ingest cells list` shows those")
        return await self._session(record)

    async def for_new(self, name: str | None) -> CellSession:
        """The cell for a new organization: that of the name, or else the open one with the fewest.

        Raises as :meth:`named`, and :class:`AdministrationError` if it is closed.
        """
        if name is not None:
            cell = await self.named(name)
            if cell.record.is_closed:
                raise AdministrationError(f"the cell {name} is closed to new organizations")
            return cell
        record = await directory.open_cell_for_new(self.home)
        if record is None:
            raise AdministrationError(
                "every cell is closed to new organizations: open one with "
                "`wepeople-ingest cells close NAME --open`, or add one"
            )
        return await self._session(record)

    async def shown_name(self, record: CellRecord) -> str | None:
        """The name of the cell where there are several; None where it is the only one."""
        several = len(await directory.list_cells(self.home)) > 1
        return record.name if several else None

    async def everywhere(
        self,
        read: Callable[[Connection], Awaitable[Sequence[T]]],
        among: Container[str] | None = None,
    ) -> list[tuple[CellRecord, T]]:
        """The rows that ``read`` finds in each cell, or in those of the names, with its record."""
        nodes: dict[str | None, list[CellRecord]] = {}
        for record in await directory.list_cells(self.home):
            if among is not None and record.name not in among:
                continue
            nodes.setdefault(record.conninfo, []).append(record)
        at_once = asyncio.Semaphore(MAX_NODES_AT_ONCE)

        async def read_node(records: list[CellRecord]) -> list[tuple[CellRecord, T]]:
            async with at_once:
                return await self._read_node(records, read)

        found = await asyncio.gather(*map(read_node, nodes.values()))
        return [row for rows in found for row in rows]

    async def _read_node(
        self, records: list[CellRecord], read: Callable[[Connection], Awaitable[Sequence[T]]]
    ) -> list[tuple[CellRecord, T]]:
        found: list[tuple[CellRecord, T]] = []
        others = [record for record in records if record.name != HOME]
        if len(others) < len(records):
            home = next(record for record in records if record.name == HOME)
            found += [(home, row) for row in await read(self.home)]
        if not others:
            return found
        try:
            db = await connect(others[0], self._conninfo, self._statement_seconds)
        except FAILURES as error:
            for record in others:  # not tried one by one: a server that hangs takes its time
                self._leave_out(record, error)
            return found
        async with db:
            for record in others:
                try:
                    await use_schema(db, record.schema)
                    found += [(record, row) for row in await read(db)]
                except FAILURES as error:
                    self._leave_out(record, error)
        return found

    def check_all_answered(self) -> None:
        """Raises :class:`DatabaseUnusableError` if a cell was left out: the sought may be there."""
        if self.left_out:
            raise DatabaseUnusableError("it is in none of the cells that answer: try again later")

    def _leave_out(self, record: CellRecord, error: Exception) -> None:
        line = f"the cell {record.name} is left out: {one_line(error)}"
        self.left_out.setdefault(record.name, line)

    async def _session(self, record: CellRecord) -> CellSession:
        if record.name == HOME:
            return CellSession(record, self.home, self.home, self.actor)
        if record.name not in self._open:
            db = await connect_migrated(record, self._conninfo, self._statement_seconds)
            await self._stack.enter_async_context(db)
            self._open[record.name] = CellSession(record, db, self.home, self.actor)
        return self._open[record.name]
