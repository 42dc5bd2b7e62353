"""docs/operations.md, taken apart into the commands of its sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"
_HEADING: Final = re.compile(r"^##+ (.+)$", re.MULTILINE)
_BLOCK: Final = re.compile(r"^```sh\n(?:# on ([^\n]+)\n)?(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Commands that are pasted together, and the place where."""

    place: str  # db1, db2, a service's host
    script: str


def sections() -> dict[str, list[Block]]:
    """The blocks of each section that has some, by its heading."""
    _, *parts = _HEADING.split(PAGE.read_text("utf-8"))
    found = {
        heading: [Block(place, script) for place, script in _BLOCK.findall(text)]
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return {heading: blocks for heading, blocks in found.items() if blocks}
