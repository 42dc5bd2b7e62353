"""The table of the generators that were tried, and how far each of their clients came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

STEPS: Final = ("compiles", "ping", "207", "snapshot", "error")

# Each step shows in members of what a client says.
_MEMBERS: Final = {
    "ping": ("app",),
    "207": ("status", "accepted", "rejected"),
    "snapshot": ("worker",),
    "error": ("error",),
}


def steps_done(said: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return the steps that a client has done, which compiled and said so much."""
    right = {name for name, value in expected.items() if said.get(name) == value}
    return ["compiles", *(step for step, names in _MEMBERS.items() if right.issuperset(names))]


def lines(rows: Sequence[tuple[str, Sequence[str] | str]]) -> list[str]:
    """Return the lines of a Markdown table.

    A row has the name of a generator, and the steps that its client has done, or the reason why
    none was tried.
    """
    table: list[tuple[str, ...]] = [("generator", *STEPS)]
    for name, steps in rows:
        if isinstance(steps, str):
            table.append((name, steps, *("" for _ in STEPS[1:])))
        else:
            table.append((name, *("yes" if step in steps else "NO" for step in STEPS)))
    text = ["| " + " | ".join(row) + " |" for row in table]
    return [text[0], "|" + " --- |" * len(table[0]), *text[1:]]
