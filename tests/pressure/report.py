"""Trials as a table for people and as JSON for tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tests.pressure.pressure import EVERY_LANE
from tests.pressure.trial import Latency, Result

COLUMNS: Final = (
    "pressure",
    *(f"{lane} ms p50/p99 without, with" for lane in EVERY_LANE),
    "errors",
    "newcomer s",
    "RSS MiB start, peak, after",
    "recovery s",
    "holds",
)


def as_json(result: Result) -> dict[str, Any]:
    """All of it, times in seconds."""
    return {
        "pressure": result.pressure.name,
        "about": result.pressure.about,
        "unloaded": _latencies(result.unloaded),
        "loaded": _latencies(result.loaded),
        "errors": dict(result.errors),
        "newcomerSeconds": result.newcomer_seconds,
        "memoryMib": {
            "start": result.memory_start_mib,
            "peak": result.memory_peak_mib,
            "after": result.memory_after_mib,
        },
        "recoverySeconds": result.recovery_seconds,
        "answers": result.answers,
        "broken": list(result.broken_bounds()),
    }


def _latencies(lanes: dict[str, Latency]) -> dict[str, Any]:
    return {lane: vars(one) if one.count else None for lane, one in lanes.items()}


def row(result: Result) -> list[str]:
    """One line of the table."""
    lanes = []
    for lane in EVERY_LANE:
        numbers = [
            f"{one.p50 * 1_000:.0f}/{one.p99 * 1_000:.0f}"
            for one in (result.unloaded[lane], result.loaded[lane])
        ]
        lanes.append(", ".join(numbers))
    after = "-" if result.memory_after_mib is None else f"{result.memory_after_mib:.0f}"
    return [
        result.pressure.name,
        *lanes,
        str(result.errors.total()),
        f"{result.newcomer_seconds:.2f}",
        f"{result.memory_start_mib:.0f}, {result.memory_peak_mib:.0f}, {after}",
        f"{result.recovery_seconds:.1f}",
        "no" if any(result.broken_bounds()) else "yes",
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
