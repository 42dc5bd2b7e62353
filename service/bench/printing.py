"""The report of a run as a person reads it: tables of speed and of cost, and the machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from service.bench.report import MILLION, Line, Report
from service.cli.output import print_fields, print_table, print_text

# Less is what processes take that the load does not reach.
MIN_SHOWN_US: Final = 0.5
MIN_COARSE_MS: Final = 10.0  # less has two decimals
SPEED_HEADERS = ("", "a second", "ratio", "p50 ms", "p99 ms", "p99.9 ms")
COST_HEADERS = (
    "",
    "service us/event",
    "database us/event",
    "events/core-second of service",
    "of database",
)


def print_report(report: Report) -> None:
    """Print the report on stdout."""
    print_table(list(SPEED_HEADERS), speeds(report))
    print_text("")
    print_table(list(COST_HEADERS), costs(report))
    print_text("")
    print_fields(_surroundings(report))


def speeds(report: Report) -> list[list[str]]:
    """A line for each row: how fast it was."""
    rows = []
    for line in report.measurements:
        speed = line.events_per_second if line.unit == "events" else line.requests_per_second
        latency = (line.latency_ms.p50, line.latency_ms.p99, line.latency_ms.p999)
        milliseconds = (f"{value:,.{2 if value < MIN_COARSE_MS else 1}f}" for value in latency)
        rows.append([line.title, f"{speed:,.0f} {line.unit}", _ratio(line), *milliseconds])
    return rows


def _ratio(line: Line) -> str:
    """The row's speed by its yardstick's, or its latency by that of its parts."""
    if line.latency_ratio is not None:
        p50, p99 = line.latency_ratio.p50, line.latency_ratio.p99
        return f"p50 {p50:.2f}, p99 {p99:.2f} of {' + '.join(line.parts)}"
    return "" if line.ratio is None else f"{line.ratio:.2f} of {line.yardstick}"


def costs(report: Report) -> list[list[str]]:
    """A line for each row: the CPU time that it took, and the events that a core is enough for."""
    rows = []
    for line in report.measurements:
        both = (line.cpu.service_us_per_event, line.cpu.database_us_per_event)
        took = (_shown(us, lambda us: f"{us:,.1f}") for us in both)
        per_core_second = (_shown(us, lambda us: f"{MILLION / us:,.0f}") for us in both)
        rows.append([line.title, *took, *per_core_second])
    return rows


def _shown(us_per_event: float | None, figure: Callable[[float], str]) -> str:
    if us_per_event is None:
        return "?"
    return "" if us_per_event < MIN_SHOWN_US else figure(us_per_event)


def _surroundings(report: Report) -> dict[str, object]:
    fields: dict[str, object] = {}
    memory = report.memory
    if memory is not None:
        before, after, most = (
            f"{size / 1_048_576:,.0f} MiB"
            for size in (memory.before_bytes, memory.after_bytes, memory.most_bytes)
        )
        fields["memory"] = f"{before} before, {after} after, {most} at most (largest process)"
    about = report.machine
    if about.get("serverProcesses") is not None:
        fields["processes"] = f"{about['serverProcesses']} of the service"
    postgres = ""
    if about["postgres"] is not None:
        where = "" if about["filesystem"] is None else f" on {about['filesystem']}"
        postgres = f"PostgreSQL {about['postgres']}{where}, "
    fields["machine"] = (
        f"{about['cores']} cores of {about['processor']}, {about['system']}, "
        f"{postgres}Python {about['python']}, "
        f"load average {about['loadAverageBefore']} before"
    )
    return fields
