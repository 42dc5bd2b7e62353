"""A run: the stages of a plan, round after round, and what each load cost whom."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from core.postgres.partitions import settle
from service.bench.display import Display
from service.bench.load import Began, Done, Ended, Failed, Load, Progress, Told, Work
from service.bench.plan import Places, Row, Stage, copy_load
from service.bench.recorder import Result
from service.bench.resources import Processes
from service.bench.target import GENERATOR, BenchError, child

MAX_FILL_SECONDS = 7_200.0


@dataclass
class Cpu:
    """CPU seconds of a measured time; None where they cannot be seen."""

    service: float | None
    database: float | None
    generator: float


@dataclass(frozen=True)
class Measured:
    """A row in one round."""

    result: Result
    # Of all the rows that were measured at the same time.
    cpu: Cpu
    events: int


@dataclass
class Memory:
    """Resident bytes of the largest process of the service."""

    before: int
    after: int = 0
    most: int = 0


@dataclass(frozen=True)
class Findings:
    """What a run has found: each row's rounds, in the order of the report."""

    rows: dict[str, tuple[Row, list[Measured]]]
    memory: Memory | None


async def run(
    stages: Sequence[Stage], places: Places, *, seconds: float, rounds: int, display: Display
) -> Findings:
    """Measure everything. BenchError if a load cannot be made."""
    service = places.target.service
    memory = Memory(service.resident_bytes()) if service else None
    rows: dict[str, tuple[Row, list[Measured]]] = {}
    for stage in stages:
        if stage.fill:
            await _fill(stage.fill, places, display)
        for number in range(rounds):
            found: dict[str, float] = {}
            for measurement in stage.measurements:
                title = f"round {number + 1} of {rounds}, {measurement.rows[0].title}"
                display.begin(title, seconds)
                loads = [row.load(places, found) for row in measurement.rows]
                results, cpu = await _measure(loads, seconds, places, memory, display)
                events = sum(result.events for result in results)
                for row, result in zip(measurement.rows, results, strict=True):
                    rows.setdefault(row.name, (row, []))[1].append(Measured(result, cpu, events))
                    found[row.name] = result.events / result.seconds
    if memory is not None:
        memory.after = service.resident_bytes()
        memory.most = max(memory.most, memory.after)
    return Findings(rows, memory)


async def _measure(
    loads: list[Load], seconds: float, places: Places, memory: Memory | None, display: Display
) -> tuple[list[Result], Cpu]:
    service, database = places.target.service, places.target.database
    cpu = Cpu(None, None, 0.0)
    async with aclosing(_told(Work(loads, seconds))) as lines:
        async for told in lines:
            if isinstance(told, Began):
                cpu.service, cpu.database = _cpu(service), _cpu(database)
                display.warm()
            elif isinstance(told, Progress):
                display.progress(sum(told.events))
                if memory is not None:
                    memory.most = max(memory.most, service.resident_bytes())
            elif isinstance(told, Ended):
                if cpu.service is not None:
                    cpu.service = service.cpu_seconds() - cpu.service
                if cpu.database is not None:
                    cpu.database = database.cpu_seconds() - cpu.database
            elif isinstance(told, Done):
                cpu.generator = told.cpu_seconds
                return told.results, cpu
            else:
                raise BenchError(told.reason)
    raise BenchError("the process that makes the load has ended")


def _cpu(processes: Processes) -> float | None:
    return processes.cpu_seconds() if processes else None


async def _fill(events: int, places: Places, display: Display) -> None:
    display.begin(f"storing {events:,} events", MAX_FILL_SECONDS)
    work = Work([copy_load(places, events)], MAX_FILL_SECONDS)
    async with aclosing(_told(work)) as lines:
        async for told in lines:
            if isinstance(told, Began):
                display.warm()
            elif isinstance(told, Progress):
                display.progress(sum(told.events))
            elif isinstance(told, Failed):
                raise BenchError(told.reason)
            elif isinstance(told, Done):
                if places.target.own:
                    display.begin("settling", MAX_FILL_SECONDS)
                    await settle(places.target.db)
                return
    raise BenchError("the process that stores events has ended")


async def _told(work: Work) -> AsyncGenerator[Told]:
    """What the process that does the work tells, until it ends; it does not outlive the use."""
    async with child(GENERATOR) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(work) + b"\n")
        await process.stdin.drain()
        while line := await process.stdout.readline():
            yield msgspec.json.decode(line, type=Told)
