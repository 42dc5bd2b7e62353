"""Fills a database and measures what many events change: `make growth ARGS="--events N"`.

Two services with embedded databases in a temporary folder, one filled and one empty, are loaded in
turn. Then the queries of operators are timed, and a month is dropped beside a steady load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from service.bench.interruption import until_interrupted
from tests.growth.measure import Found, measure
from tests.growth.printing import table

MAX_SECONDS: Final = 7_200.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.growth", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="stored before")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load in each round")
    parser.add_argument("--rounds", type=int, default=5, help="of the loads")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", action="store_true", help="a document for tools")
    return parser.parse_args()


async def _measure(arguments: argparse.Namespace) -> Found:
    async with asyncio.timeout(MAX_SECONDS):
        return await measure(
            arguments.folder, arguments.events, arguments.seconds, arguments.rounds
        )


def main() -> int:
    """Measure and print; 1 if it was interrupted."""
    arguments = _arguments()

    def tell() -> None:
        print("Interrupted; removing what was made.", file=sys.stderr)

    found = asyncio.run(until_interrupted(_measure(arguments), tell))
    if found is None:
        return 1
    if arguments.json:
        json.dump(found.as_json(), sys.stdout, indent=1)
        print()
    else:
        print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
