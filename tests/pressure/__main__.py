"""Runs pressures for as long as wished, and prints what a quiet tenant met.

    python -m tests.pressure key_at_its_limit readyz --seconds 60
    python -m tests.pressure --project ../before --json > before.json

``--project``: the service of another checkout, judged by this one's tool. Exits 1 if a bound of
contract section 12 did not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.pressure import report
from tests.pressure.child import OWN_PROJECT
from tests.pressure.databases import databases
from tests.pressure.kinds import PRESSURES
from tests.pressure.service import Service
from tests.pressure.trial import Result, Trial


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.pressure", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all of them by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each pressure")
    parser.add_argument("--unloaded-seconds", type=float, default=10.0, help="before it")
    parser.add_argument("--project", type=Path, default=OWN_PROJECT, help="another checkout")
    parser.add_argument("--no-memory-wait", action="store_true", help="do not wait for it to fall")
    parser.add_argument("--json", action="store_true", help="a document for tools")
    parser.add_argument("--list", action="store_true", help="the names, and what each does")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in PRESSURES:
            parser.error(f"there is no pressure {name}; see --list")
    return arguments


def _run(name: str, database_url: str, arguments: argparse.Namespace) -> Result:
    pressure = PRESSURES[name]
    service = Service(
        database_url, project=arguments.project.resolve(), descriptors=pressure.descriptors
    )
    with service:
        trial = Trial(pressure, service, unloaded_seconds=arguments.unloaded_seconds)
        try:
            return trial.run(arguments.seconds, watch_memory=not arguments.no_memory_wait)
        except Exception as error:  # the other pressures are tried all the same
            trial.result.failure = f"the trial failed: {error!r}"
            return trial.result


def main() -> int:
    """Run them one after the other, each on a service and a database of its own."""
    arguments = _arguments()
    if arguments.list:
        for pressure in PRESSURES.values():
            print(f"{pressure.name:36} {pressure.about}")
        return 0
    results: list[Result] = []
    with databases() as create:
        for name in arguments.names or PRESSURES:
            print(f"{name} ...", file=sys.stderr, flush=True)
            result = _run(name, create(), arguments)
            results.append(result)
            for bound in result.broken_bounds():
                print(f"    {bound}", file=sys.stderr, flush=True)
    if arguments.json:
        json.dump([report.as_json(result) for result in results], sys.stdout, indent=1)
        print()
    else:
        print(report.table([report.row(result) for result in results]))
    return int(any(True for result in results for _ in result.broken_bounds()))


if __name__ == "__main__":
    sys.exit(main())
