"""The way of a running server to the cells, for operators who come by HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import psycopg

from core.access.key_secrets import KeySecrets
from core.admin.cell_sessions import CellSessions
from core.clock import Clock
from core.errors import IngestError
from core.postgres.audit import Actor
from core.postgres.database import Database
from core.postgres.errors import DatabaseUnusableError, is_temporary
from core.postgres.sessions import Connection

MAX_AT_ONCE: Final = 4  # requests of operators in a process; the others wait
STATEMENT_SECONDS: Final = 10


class Administration:
    """Lends operators' requests the sessions of the cells, a few at once.

    The road of a batch has connections of its own. ``secrets``: of operators' tokens.
    """

    def __init__(self, home: Database, clock: Clock, secrets: KeySecrets) -> None:
        self._home = home
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)
        self.clock = clock
        self.secrets = secrets

    @contextlib.asynccontextmanager
    async def home(self) -> AsyncIterator[Connection]:
        """A session of the home database; :class:`DatabaseUnusableError` if it cannot be used."""
        try:
            async with self._at_once, self._home.connection() as db:
                yield db
        except psycopg.errors.QueryCanceled as error:
            raise DatabaseUnusableError("the database took too long: ask for less") from error
        except psycopg.Error as error:  # of another cell
            if not is_temporary(error):
                raise
            raise DatabaseUnusableError("the database does not answer at this moment") from error
        except IngestError as error:
            raise DatabaseUnusableError(error.message) from error

    @contextlib.asynccontextmanager
    async def cells(self, actor: Actor) -> AsyncIterator[CellSessions]:
        """The sessions of all cells, for the work of ``actor``. Raises as :meth:`home`."""
        async with (
            self.home() as home,
            CellSessions(home, self._home.conninfo, STATEMENT_SECONDS, actor) as cells,
        ):
            yield cells
