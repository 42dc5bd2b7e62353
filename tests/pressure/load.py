"""The process that makes a pressure: its CPU is not the service's.

An error in it fails the trial, and so does a pressure that left no trace: nothing is proved by
a service that withstands nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from typing import Any

import uvloop

from tests.pressure.child import order, tell, until_ended
from tests.pressure.kinds import PRESSURES
from tests.pressure.pressure import Tally, Target

FULL_SECONDS = 10.0  # after so long the pressure counts as being all there
CONNECTION_ENDS = {"closed", "refused"}  # among a tally's answers


async def main() -> None:
    """Run the pressure that is asked for until stdin ends; then tell what came of it."""
    asked = order()
    errors: list[str] = []

    def note(_: object, context: dict[str, Any]) -> None:
        errors.append(repr(context.get("exception") or context["message"]))

    asyncio.get_running_loop().set_exception_handler(note)
    target = Target(**{**asked["target"], "http": tuple(asked["target"]["http"])})
    tally, pressure = Tally(), PRESSURES[asked["name"]]
    tell("begun")
    run = asyncio.ensure_future(pressure.run(target, tally))
    ended = asyncio.ensure_future(until_ended())
    full = asyncio.ensure_future(tally.full.wait())
    await asyncio.wait(
        (full, run, ended), timeout=FULL_SECONDS, return_when=asyncio.FIRST_COMPLETED
    )
    tell("full")
    await asyncio.wait((run, ended), return_when=asyncio.FIRST_COMPLETED)
    if run.done():
        errors.append(repr(run.exception() or "it ended"))
    elif not (tally.full.is_set() or tally.answers):
        errors.append("it left no trace")
    elif not (pressure.silent or set(tally.answers) - CONNECTION_ENDS):
        errors.append("it got no answers")
    for task in (run, full, ended):
        task.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await asyncio.gather(run, full, ended, return_exceptions=True)
    tell({**tally.as_json(), "failure": errors[0] if errors else None})


def take_descriptors() -> None:
    """Have as many descriptors as the system lets us."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    take_descriptors()
    uvloop.run(main())
