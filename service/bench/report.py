"""The report of a run: medians of the rounds, ratios within each round, and what it all cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final

from msgspec import Struct

from service.bench.recorder import Interval, Latency
from service.bench.run import Findings, Measured

MILLION: Final = 1_000_000


class Cost(Struct, frozen=True, rename="camel"):
    """CPU seconds in one round, and microseconds an event; None for processes that cannot be seen.

    Rows that are measured at the same time share one cost.
    """

    service_seconds: float | None
    database_seconds: float | None
    generator_seconds: float
    service_us_per_event: float | None
    database_us_per_event: float | None


class Round(Struct, frozen=True, rename="camel"):
    """One round of a row."""

    events_per_second: float
    requests_per_second: float
    latency_ms: Latency
    timeline: list[Interval]


class LatencyRatio(Struct, frozen=True):
    """A row's percentiles by the sums of those of its parts: the medians of each round's."""

    p50: float
    p99: float


class Line(Struct, frozen=True, rename="camel"):
    """A row: medians of its rounds. ``ratio``: to its yardstick, the median of each round's.

    ``latency_ratio``: to its ``parts`` together, if it has any.
    """

    name: str
    title: str
    unit: str
    events_per_second: float
    requests_per_second: float
    latency_ms: Latency
    unsent: int
    yardstick: str | None
    ratio: float | None
    cpu: Cost
    rounds: list[Round]
    parts: tuple[str, ...] = ()
    latency_ratio: LatencyRatio | None = None


class MemoryUse(Struct, frozen=True, rename="camel"):
    """Resident bytes of the largest process of the service."""

    before_bytes: int
    after_bytes: int
    most_bytes: int


class Report(Struct, frozen=True, rename="camel"):
    """The report of a run."""

    machine: Mapping[str, str | int | float | None]
    settings: Mapping[str, object]
    measurements: list[Line]
    memory: MemoryUse | None


def report(
    findings: Findings,
    machine: Mapping[str, str | int | float | None],
    settings: Mapping[str, object],
) -> Report:
    """The report of the findings."""
    lines = []
    for name, (row, rounds) in findings.rows.items():
        ratio = None
        if row.yardstick is not None:
            by = findings.rows[row.yardstick][1]
            pairs = zip(rounds, by, strict=True)
            ratio = round(
                median(_speed(one, row.unit) / _speed(two, row.unit) for one, two in pairs), 3
            )
        lines.append(
            Line(
                name,
                row.title,
                row.unit,
                _median(rounds, lambda one: _speed(one, "events")),
                _median(rounds, lambda one: _speed(one, "requests")),
                _latency([one.result.latency_ms for one in rounds]),
                sum(one.result.unsent for one in rounds),
                row.yardstick,
                ratio,
                _cost(rounds),
                [
                    Round(
                        round(_speed(one, "events"), 1),
                        round(_speed(one, "requests"), 1),
                        one.result.latency_ms,
                        one.result.timeline,
                    )
                    for one in rounds
                ],
                row.parts,
                _latency_ratio(rounds, [findings.rows[part][1] for part in row.parts]),
            )
        )
    memory = findings.memory
    return Report(
        machine,
        settings,
        lines,
        None if memory is None else MemoryUse(memory.before, memory.after, memory.most),
    )


def _speed(measured: Measured, unit: str) -> float:
    result = measured.result
    # Never 0, also for a round without answers, so that ratios can be computed.
    return max(result.events if unit == "events" else result.requests, 0.1) / result.seconds


def _median(rounds: Sequence[Measured], figure: Callable[[Measured], float]) -> float:
    return round(median(figure(one) for one in rounds), 1)


def _latency(found: Sequence[Latency]) -> Latency:
    return Latency(
        *(
            median(float(getattr(one, percentile)) for one in found)
            for percentile in Latency.__struct_fields__
        )
    )


def _latency_ratio(
    rounds: Sequence[Measured], parts: Sequence[Sequence[Measured]]
) -> LatencyRatio | None:
    if not parts:
        return None
    ratios = [
        [
            getattr(whole.result.latency_ms, percentile)
            / sum(getattr(part.result.latency_ms, percentile) for part in of_round)
            for whole, *of_round in zip(rounds, *parts, strict=True)
        ]
        for percentile in LatencyRatio.__struct_fields__
    ]
    return LatencyRatio(*(round(median(of_rounds), 3) for of_rounds in ratios))


def _cost(rounds: Sequence[Measured]) -> Cost:
    service = [one.cpu.service for one in rounds if one.cpu.service is not None]
    database = [one.cpu.database for one in rounds if one.cpu.database is not None]
    generator = [one.cpu.generator for one in rounds]
    events = median(max(one.events, 1) for one in rounds)
    return Cost(
        round(median(service), 3) if service else None,
        round(median(database), 3) if database else None,
        round(median(generator), 3),
        round(median(service) * MILLION / events, 2) if service else None,
        round(median(database) * MILLION / events, 2) if database else None,
    )
