"""Readiness: whether the service should get traffic, found out once for everybody who asks.

Ready means that events can be written (docs/contract.md section 13). One task looks at the database
twice a second; the health pages of both protocols are answered from its latest result.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import psycopg

from core.clock import Clock
from core.errors import IngestError
from core.failure_log import FailureLog
from core.postgres.database import Database
from core.postgres.errors import is_unwritable
from core.postgres.health import Problem, probe, write_problem
from core.postgres.partitions import ensure_partitions
from service.processes.shared_state import SharedState

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 0.5  # between two looks
NO_ANSWER: Final = "does not answer"
ANSWER_SECONDS: Final = 1.2  # a database that takes longer does not answer


class Readiness:
    """The readiness of a process, while :meth:`run` runs."""

    def __init__(self, database: Database, shared_state: SharedState, clock: Clock) -> None:
        self._database = database
        self._shared_state = shared_state
        self._clock = clock
        self._draining = False
        self._failures = FailureLog(log, clock)
        self._database_problem: str | None = "the database was not asked yet"

    def drain(self) -> None:
        """Be ready no more, for good."""
        self._draining = True

    async def problem(self) -> str | None:
        """The reason why the service should get no traffic; None if it should."""
        if self._draining:
            return "shutting down"
        return self._shared_state.problem() or self._database_problem

    async def run(self) -> None:
        """Look at the database until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        """Look at the database once."""
        try:
            self._database_problem = await self._database.within(ANSWER_SECONDS, self._ask())
            if self._database_problem is not None:
                # It may be that of a session which outlived a failover.
                self._database.check_soon()
        except (psycopg.Error, IngestError) as error:
            cause = error.__cause__ if isinstance(error, IngestError) else error
            refuses = cause is not None and is_unwritable(cause)
            self._database_problem = f"the database {'takes no writes' if refuses else NO_ANSWER}"
        except Exception as error:  # such as a want of descriptors: never the end of the service
            self._database_problem = "the database could not be asked"
            self._failures.note(
                "the readiness check failed", error, expected=isinstance(error, OSError)
            )

    async def _ask(self) -> str | None:
        async with self._database.connection() as db:
            now_us = self._clock.now_us()
            problem = await write_problem(db, now_us)
            if problem is Problem.NO_PARTITION:
                # Nobody sends events to a service that is not ready, so none would have it made.
                await ensure_partitions(db, now_us)
            elif problem is None and self._database.has_refused_write:
                self._database.has_refused_write = False  # before: a refusal meanwhile counts
                try:
                    await probe(db)
                except BaseException:
                    self._database.has_refused_write = True
                    raise
            return problem
