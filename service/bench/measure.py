"""A whole measurement: the service, a tenant and the yardsticks are made, measured and removed."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import partial

from service.bench.display import Display
from service.bench.peer import Peer, measurements
from service.bench.plan import Choice, stages
from service.bench.report import Report, report
from service.bench.resources import machine
from service.bench.rows import Destination, Stage
from service.bench.run import run
from service.bench.target import Target, bare, running, started
from service.bench.tenant import tenant


@dataclass(frozen=True)
class Source:
    """The service to measure.

    ``servers``: the URL and the HOST:PORT of a running one; none for one that is started with
    ``serve_options``. ``cell``: that of the load's organization; None for the one that a new
    organization gets.
    """

    servers: list[str]
    serve_options: list[str]
    insecure: bool
    cell: str | None


@dataclass(frozen=True)
class Options:
    """The options of a measurement.

    ``source``: None if ``peers`` alone are measured, else they take turns with it. ``seconds``: of
    each row in each round. ``stored``: the number of events after whose storing the load is
    measured once more; None for not at all.
    """

    choice: Choice
    source: Source | None
    peers: list[Peer]
    seconds: float
    rounds: int
    stored: int | None
    yardsticks: bool

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
            "servers": [] if self.source is None else self.source.servers,
            "peers": [peer.name for peer in self.peers],
        }


async def measure(options: Options, display: Display) -> Report:
    """Measure as the options say; whatever was made for it is removed, also when cancelled.

    Raises BenchError if it cannot be done.
    """
    load_average = round(os.getloadavg()[0], 2)
    peers = measurements(options.peers)
    go = partial(run, seconds=options.seconds, rounds=options.rounds, display=display)
    source = options.source
    if source is None:
        findings = await go([Stage(peers)], None)
        return report(findings, _machine(None, load_average), options.reported())
    async with contextlib.AsyncExitStack() as stack:
        target = await stack.enter_async_context(
            running(source.servers, insecure=source.insecure)
            if source.servers
            else started(source.serve_options)
        )
        owner = await stack.enter_async_context(tenant(target, source.cell, display.note))
        yardsticks = await stack.enter_async_context(bare(owner.storage))
        first, *others = stages(options.choice, options.stored, yardsticks=options.yardsticks)
        findings = await go(
            [Stage([*first.measurements, *peers], first.fill), *others],
            Destination(target, owner, yardsticks),
        )
        settings = {**options.reported(), "organizationId": owner.organization_id}
        return report(findings, _machine(target, load_average), settings)


def _machine(target: Target | None, load_average: float) -> dict[str, str | int | float | None]:
    """The machine; without a target nothing is known of a database."""
    embedded = target is not None and target.settings.database_url is None
    return {
        **machine(target.settings.data_dir if target is not None and embedded else None),
        "postgres": None if target is None else target.db.info.server_version // 10_000,
        "serverProcesses": target.service.servers() if target is not None else None,
        "loadAverageBefore": load_average,
    }
