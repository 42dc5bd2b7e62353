"""The cells that a process works in: what each has of its own, and whether it answers.

A cell holds whole organizations: a schema in the home database or in another one. Its work fails
when its database does, and that of no other cell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final, Self

import psycopg

from core.access.shared_budget import SharedBudget
from core.clock import Clock
from core.counters import Counters
from core.error_codes import ErrorCode
from core.errors import INTERNAL_MESSAGE, IngestError, unavailable
from core.failure_log import FailureLog
from core.journal.journal import Journal
from core.journal.rejections import Rejections
from core.journal.traffic import Traffic
from core.models import Caller
from core.nodes import Nodes
from core.postgres.database import Database
from core.postgres.directory import HOME, MAX_CELLS, CellRecord, find_cell, list_cells
from core.postgres.errors import database_away
from core.postgres.health import Problem, cell_problem
from core.postgres.node import MAX_POOL_CONNECTIONS

log = logging.getLogger(__name__)

LIST_SECONDS: Final = 10.0  # between two looks at the directory for cells that are not open yet
LOOK_SECONDS: Final = 1.0  # between two looks whether a cell answers
ANSWER_SECONDS: Final = 2.0  # a cell that takes longer does not answer
MAX_FAILED_LOOKS: Final = 1  # one more in a row, and the cell is away; a busy process is late, too


class Cell:
    """A cell that is open.

    ``stream_openings``: producers' streams that use the database of its node to open. ``problem``:
    the reason why it can take nothing at this moment, as far as is known; None if it can. The home
    cell never has one: readiness looks at it (service/readiness.py).
    """

    def __init__(
        self,
        name: str,
        database: Database,
        stream_openings: SharedBudget,
        journal: Journal,
        rejections: Rejections,
        traffic: Traffic,
    ) -> None:
        self.name = name
        self.database = database
        self.stream_openings = stream_openings
        self.journal = journal
        self.rejections = rejections
        self.traffic = traffic
        self.problem: str | None = None
        self.failed_looks = 0  # in a row

    def check(self) -> None:
        """Raises ``internal_error``, transient, if the cell is known to take nothing.

        Its requests would wait in vain and hold memory that the others need.
        """
        if self.problem is not None:
            raise database_away()


# Makes the cell of that name on its database, and has it work within the block.
OpenCell = Callable[[str, Database, SharedBudget], AbstractAsyncContextManager[Cell]]


class Cells:
    """The cells of a process, opened when they are first asked for; ``home`` at once.

    Use it with ``async with``; the cells work within the block. On leaving it each commits what it
    has begun, all at the same time. A cell whose database is away is opened like any other.

    ``max_connections``: of the pool of each node but the home one, whose database is given.
    """

    def __init__(
        self,
        home: Database,
        open_cell: OpenCell,
        clock: Clock,
        counters: Counters,
        max_connections: int = MAX_POOL_CONNECTIONS,
    ) -> None:
        self._home = home
        self._open_cell = open_cell
        self._counters = counters
        self._nodes = Nodes(home, max_connections)
        self._cells: dict[str, Cell] = {}
        self._exits: list[AsyncExitStack] = []
        self._opening: dict[str, asyncio.Task[Cell]] = {}
        self._entering = asyncio.Lock()
        self._is_closing = False
        self._list_failures, self._look_failures = FailureLog(log, clock), FailureLog(log, clock)

    async def __aenter__(self) -> Self:
        await self._enter(CellRecord(HOME))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closing = True
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        closing = [exit_.aclose() for exit_ in self._exits]
        ends = await asyncio.gather(*closing, return_exceptions=True)
        for error in [*ends, *await self._nodes.close()]:
            if isinstance(error, BaseException):
                log.error("a cell was not closed in order", exc_info=error)

    @property
    def home(self) -> Cell:
        """The cell that every database has."""
        return self._cells[HOME]

    def of(self, caller: Caller) -> Cell:
        """The cell that the caller's organization lives in; it was opened to read the caller."""
        return self._cells[caller.cell]

    async def database_of(self, name: str) -> Database:
        """The database of the cell of that name.

        Raises ``internal_error``: transient if the home database does not tell where the cell is,
        or if the cell is known to take nothing.
        """
        cell = self._cells.get(name) or await self._opened(name)
        cell.check()
        return cell.database

    async def run(self) -> None:
        """Open the cells of the directory and look whether they answer, until cancelled."""
        await asyncio.gather(self._open_all(), self._look_at_all())

    async def _opened(self, name: str) -> Cell:
        opening = self._opening.get(name)
        if opening is None:
            opening = self._opening[name] = asyncio.create_task(self._find_and_enter(name))
            opening.add_done_callback(lambda _: self._opening.pop(name))
        return await asyncio.shield(opening)  # a caller that gives up ends it for no other

    async def _find_and_enter(self, name: str) -> Cell:
        async with self._home.connection() as db:
            record = await find_cell(db, name)
        if record is None:
            log.error("the directory has keys in cell %s and no such cell", name)
            raise IngestError(ErrorCode.INTERNAL_ERROR, INTERNAL_MESSAGE)
        return await self._enter(record)

    async def _enter(self, record: CellRecord) -> Cell:
        node = await self._nodes.of(record)  # on Citus that takes a while if its servers are away
        async with self._entering:
            if self._is_closing:
                raise unavailable("The service is shutting down. Retry shortly.")
            if len(self._cells) >= MAX_CELLS:
                log.error("cell %s is one too many: a process has %d", record.name, MAX_CELLS)
                raise database_away()
            opened = self._open_cell(record.name, *node)
            async with AsyncExitStack() as stack:
                cell = self._cells[record.name] = await stack.enter_async_context(opened)
                self._exits.append(stack.pop_all())
        return cell

    async def _open_all(self) -> None:
        """Open the cells whose keys nobody uses, too: they have maintenance to do."""
        while True:
            try:
                async with self._home.connection() as db:
                    records = await list_cells(db)
            except Exception as error:  # such as a want of descriptors
                self._note_failure("the list of cells was not read", error)
                records = []
            for record in records:
                if record.name not in self._cells:
                    try:
                        await self._opened(record.name)
                    except Exception as error:  # such as a URL that an operator has mistyped
                        self._note_failure(f"cell {record.name} was not opened", error)
            await asyncio.sleep(LIST_SECONDS)

    def _note_failure(self, what: str, error: Exception) -> None:
        expected = isinstance(error, (psycopg.Error, IngestError, OSError))
        self._list_failures.note(
            f"{what}, will be tried again", error.__cause__ or error, expected=expected
        )

    async def _look_at_all(self) -> None:
        while True:
            others = [cell for cell in self._cells.values() if cell.name != HOME]
            # One after the other: all at once, the cells of a node would fill its pool's queue.
            pauses = [LOOK_SECONDS * index / len(others) for index in range(len(others))]
            looks = map(self._look_at, others, pauses)
            await asyncio.gather(*looks, asyncio.sleep(LOOK_SECONDS))

    async def _look_at(self, cell: Cell, pause_seconds: float) -> None:
        await asyncio.sleep(pause_seconds)
        problem: str | None
        try:
            await cell.database.locate()
            problem = await cell.database.within(ANSWER_SECONDS, self._ask(cell))
        except (psycopg.Error, IngestError):
            problem = "its database does not answer"
        except Exception as error:  # such as a want of descriptors, which is no cell's own
            expected = isinstance(error, OSError)
            self._look_failures.note(f"cell {cell.name} was not asked", error, expected=expected)
            return
        if problem is None:
            cell.failed_looks = 0
        else:
            cell.failed_looks += 1
            cell.database.check_soon()
            if cell.failed_looks <= MAX_FAILED_LOOKS:
                return
        if problem != cell.problem:
            if problem is None:
                log.info("cell %s takes requests again", cell.name)
            else:
                log.error("cell %s takes no requests: %s", cell.name, problem)
        cell.problem = problem
        self._counters.cell_away(cell.name, away=problem is not None)

    async def _ask(self, cell: Cell) -> Problem | None:
        async with cell.database.connection() as db:
            return await cell_problem(db)
