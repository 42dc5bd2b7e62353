"""A run: the stages of a plan, round after round, and the CPU time that each load costs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from core.postgres.partitions import vacuum_and_checkpoint
from service.bench.display import Display
from service.bench.load import Began, Done, Ended, Failed, Message, Progress, Work
from service.bench.recorder import Result
from service.bench.resources import Processes
from service.bench.rows import Destination, Row, Stage, copy_load
from service.bench.target import GENERATOR, BenchError, child

MAX_FILL_SECONDS = 7_200.0


@dataclass
class Cpu:
    """CPU seconds of a measurement; None for processes that cannot be seen."""

    service: float | None
    database: float | None
    generator: float


@dataclass(frozen=True)
class Measured:
    """A row in one round."""

    result: Result
    # CPU time and events of all the rows that were measured at the same time.
    cpu: Cpu
    events: int


@dataclass
class Memory:
    """Resident bytes of the largest process of the service."""

    of: Processes
    before: int
    after: int = 0
    most: int = 0


@dataclass(frozen=True)
class Findings:
    """The findings of a run: each row's rounds, in the order of the report."""

    rows: dict[str, tuple[Row, list[Measured]]]
    memory: Memory | None


async def run(
    stages: Sequence[Stage],
    destination: Destination | None,
    *,
    seconds: float,
    rounds: int,
    display: Display,
) -> Findings:
    """Measure every row in every round. Raises BenchError if a load cannot be made.

    ``destination``: None if all rows are of foreign services.
    """
    service = Processes([]) if destination is None else destination.target.service
    memory = Memory(service, service.resident_bytes()) if service else None
    rows: dict[str, tuple[Row, list[Measured]]] = {}
    for stage in stages:
        if stage.fill:
            assert destination is not None
            await _fill(stage.fill, destination, display)
        for number in range(rounds):
            speeds: dict[str, float] = {}
            for measurement in stage.measurements:
                title = f"round {number + 1} of {rounds}, {measurement.rows[0].title}"
                own_seconds = measurement.rows[0].seconds or seconds
                display.begin(title, own_seconds)
                results, cpu = await _measure(
                    measurement.rows, speeds, own_seconds, destination, memory, display
                )
                events = sum(result.events for result in results)
                for row, result in zip(measurement.rows, results, strict=True):
                    rows.setdefault(row.name, (row, []))[1].append(Measured(result, cpu, events))
                    speeds[row.name] = result.events / result.seconds
    if memory is not None:
        memory.after = service.resident_bytes()
        memory.most = max(memory.most, memory.after)
    return Findings(rows, memory)


async def _measure(
    rows: Sequence[Row],
    speeds: Mapping[str, float],
    seconds: float,
    destination: Destination | None,
    memory: Memory | None,
    display: Display,
) -> tuple[list[Result], Cpu]:
    loads = [row.make(destination, speeds) for row in rows]
    serving, database = rows[0].processes(destination)
    cpu = Cpu(None, None, 0.0)
    async with aclosing(_messages(Work(loads, seconds))) as lines:
        async for message in lines:
            if isinstance(message, Began):
                cpu.service, cpu.database = _cpu(serving), _cpu(database)
                display.warm()
            elif isinstance(message, Progress):
                display.progress(sum(message.events))
                if memory is not None:
                    memory.most = max(memory.most, memory.of.resident_bytes())
            elif isinstance(message, Ended):
                if cpu.service is not None:
                    cpu.service = serving.cpu_seconds() - cpu.service
                if cpu.database is not None:
                    cpu.database = database.cpu_seconds() - cpu.database
            elif isinstance(message, Done):
                cpu.generator = message.cpu_seconds
                return message.results, cpu
            else:
                raise BenchError(message.reason)
    raise BenchError("the process that makes the load has ended")


def _cpu(processes: Processes) -> float | None:
    return processes.cpu_seconds() if processes else None


async def _fill(events: int, destination: Destination, display: Display) -> None:
    display.begin(f"storing {events:,} events", MAX_FILL_SECONDS)
    work = Work([copy_load(destination, events)], MAX_FILL_SECONDS)
    async with aclosing(_messages(work)) as lines:
        async for message in lines:
            if isinstance(message, Began):
                display.warm()
            elif isinstance(message, Progress):
                display.progress(sum(message.events))
            elif isinstance(message, Failed):
                raise BenchError(message.reason)
            elif isinstance(message, Done):
                if destination.target.own:
                    display.begin("settling", MAX_FILL_SECONDS)
                    await vacuum_and_checkpoint(destination.target.db)
                return
    raise BenchError("the process that stores events has ended")


async def _messages(work: Work) -> AsyncGenerator[Message]:
    """The messages of a new generator that does the work; it ends with the iteration."""
    async with child(GENERATOR) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(work) + b"\n")
        await process.stdin.drain()
        while line := await process.stdout.readline():
            yield msgspec.json.decode(line, type=Message)
