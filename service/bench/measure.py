"""A whole measurement: the service, a tenant and the yardsticks are made, measured and removed."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from service.bench.display import Display
from service.bench.plan import Choice, stages
from service.bench.report import Report, report
from service.bench.resources import machine
from service.bench.rows import Destination
from service.bench.run import run
from service.bench.target import Target, bare, running, started
from service.bench.tenant import tenant


@dataclass(frozen=True)
class Options:
    """The options of a measurement.

    ``servers``: the URL and the HOST:PORT of a running service; none for a service that is started
    with ``serve_options``. ``seconds``: of each row in each round. ``stored``: the number of events
    after whose storing the load is measured once more; None for not at all. ``cell``: that of the
    load's organization; None for the one that a new organization gets.
    """

    choice: Choice
    servers: list[str]
    serve_options: list[str]
    insecure: bool
    seconds: float
    rounds: int
    stored: int | None
    yardsticks: bool
    cell: str | None

    def reported(self) -> dict[str, object]:
        """The options as the report shows them."""
        return {
            "protocol": self.choice.protocol,
            "batch": self.choice.batch,
            "concurrency": self.choice.concurrency,
            "rate": self.choice.rate,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "stored": self.stored,
            "servers": self.servers,
        }


async def measure(options: Options, display: Display) -> Report:
    """Measure as the options say; whatever was made for it is removed, also when cancelled.

    Raises BenchError if it cannot be done.
    """
    load_average = round(os.getloadavg()[0], 2)
    async with contextlib.AsyncExitStack() as stack:
        target = await stack.enter_async_context(
            running(options.servers, insecure=options.insecure)
            if options.servers
            else started(options.serve_options)
        )
        owner = await stack.enter_async_context(tenant(target, options.cell, display.note))
        yardsticks = await stack.enter_async_context(bare(owner.storage))
        findings = await run(
            stages(options.choice, options.stored, yardsticks=options.yardsticks),
            Destination(target, owner, yardsticks),
            seconds=options.seconds,
            rounds=options.rounds,
            display=display,
        )
        settings = {**options.reported(), "organizationId": owner.organization_id}
        return report(findings, _machine(target, load_average), settings)


def _machine(target: Target, load_average: float) -> dict[str, str | int | float | None]:
    embedded = target.settings.database_url is None
    return {
        **machine(target.settings.data_dir if embedded else None),
        "postgres": target.db.info.server_version // 10_000,
        "loadAverageBefore": load_average,
    }
