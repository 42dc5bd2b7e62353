"""docs/scale.md, whose tables are those that the scripts here print."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

TEXT: Final = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8")


def holds(lines: Iterable[str]) -> bool:
    """Whether the page has these lines one after the other."""
    return "\n".join(lines) in TEXT
