"""The whole measurement, from the folder that is made for it to its removal."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from service.bench.report import Line
from service.bench.resources import machine
from service.cli.session import STATEMENT_SECONDS
from tests.growth import ingest, queries, sides
from tests.growth.ingest import Dropped
from tests.growth.owners import Owner
from tests.growth.queries import Timed
from tests.support.database import connect
from tests.support.service_process import EmbeddedServiceProcess

_STORED: Final = """
SELECT count(*), (SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits
    WHERE inhparent = 'events'::regclass)
FROM events
"""


@dataclass(frozen=True)
class Found:
    """The figures. ``memory_mib``: of each service before and after everything it was sent."""

    machine: dict[str, str | int | float | None]
    events: int
    stored_bytes: int
    lines: list[Line]
    queries: list[Timed]
    dropped: Dropped
    memory_mib: dict[str, tuple[float, float]]

    def as_json(self) -> Any:
        """The figures in the types of JSON."""
        return msgspec.to_builtins(self)


async def measure(folder: Path, events: int, seconds: float, rounds: int) -> Found:
    """Fill and measure; nothing is left in the folder."""
    with ExitStack() as stack:
        # The names are short: the path of PostgreSQL's socket is in them.
        own = Path(tempfile.mkdtemp(prefix="wp-", dir=folder))
        stack.callback(own.rmdir)
        empty, filled = sides.make_process(own / "0"), sides.make_process(own / "1")
        for process in (empty, filled):
            stack.callback(sides.remove, process)
        owners = await sides.filled(filled, events)
        return await compare(empty, filled, owners, seconds, rounds)


async def compare(
    empty_process: EmbeddedServiceProcess,
    filled_process: EmbeddedServiceProcess,
    owners: Sequence[Owner],
    seconds: float,
    rounds: int,
) -> Found:
    """Measure two services that do not run yet; the second is on the database of the owners."""
    async with (
        sides.started("empty", empty_process) as empty,
        sides.started("filled", filled_process) as filled,
    ):
        async with await connect(filled.database_url) as db:
            await db.execute("SET statement_timeout = 0")
            row = await (await db.execute(_STORED)).fetchone()
        assert row is not None
        before = {side.name: side.process.memory_mib() for side in (empty, filled)}
        _tell("queries")
        async with await connect(filled.database_url) as db:
            await db.execute(f"SET statement_timeout = '{STATEMENT_SECONDS}s'")  # as of commands
            timed = await queries.timed(db, owners)
        _tell("ingest")
        lines = await ingest.in_turn(empty, filled, seconds, rounds)
        _tell("the end of a month's retention")
        dropped = await ingest.drop(filled, seconds)
        memory = {
            side.name: (round(before[side.name], 1), round(side.process.memory_mib(), 1))
            for side in (empty, filled)
        }
        stored, stored_bytes = row
        of_machine = machine(filled_process.data_dir)
        return Found(of_machine, stored, stored_bytes, lines, timed, dropped, memory)


def _tell(step: str) -> None:
    print(step, file=sys.stderr, flush=True)
