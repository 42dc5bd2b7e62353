"""The figures as tables."""

from __future__ import annotations

from collections.abc import Iterator

from tests.growth.measure import Found


def table(found: Found) -> str:
    """Everything, as BENCHMARKS.md shows it."""
    return "\n".join(_lines(found))


def _lines(found: Found) -> Iterator[str]:
    yield f"{found.events:,} events, {found.stored_bytes / 1e9:.1f} GB with their index"
    yield ""
    yield "| load | events/s | ratio | service, us/event | PostgreSQL, us/event |"
    yield "| --- | --- | --- | --- | --- |"
    for line in found.lines:
        cpu = line.cpu
        yield (
            f"| {line.title} | {line.events_per_second:,.0f} | {line.ratio or ''} "
            f"| {cpu.service_us_per_event} | {cpu.database_us_per_event} |"
        )
    yield ""
    yield "| query | rows | first, ms | p50 | max |"
    yield "| --- | --- | --- | --- | --- |"
    for one in found.queries:
        yield f"| {one.name} | {one.rows} | {one.first_ms} | {one.p50_ms} | {one.max_ms} |"
    yield ""
    dropped = found.dropped
    yield (
        f"{', '.join(dropped.partitions)} gone after {dropped.gone_seconds:.3f} s, with its files "
        f"after {dropped.seconds:.3f} s, try {dropped.tries}; "
        f"a reader waited {dropped.locked_ms:.0f} ms at most; the longest request of a steady load "
        f"took {dropped.longest_ms:.0f} ms then, {dropped.usual_ms:.0f} ms without, "
        f"{dropped.unsent} were not sent"
    )
    for name, (before, after) in found.memory_mib.items():
        yield f"memory of the service, {name}: {before} MiB before, {after} MiB after"
