"""A session of ``bench``: the service it loads, the stages of its plan, and the report."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from service.bench.display import Display
from service.bench.plan import Asked, Places, Stage, chosen, growth, usual
from service.bench.report import Report, report
from service.bench.resources import machine
from service.bench.run import run
from service.bench.target import bare, running, started, tenant


@dataclass(frozen=True, slots=True)
class Setting:
    """The options of a session, as the command line has them."""

    asked: Asked
    seconds: float  # of each measurement
    rounds: int
    stored: int | None  # events to store before the second part
    yardsticks: bool
    servers: Sequence[str]  # running ones; none: a service of its own
    insecure: bool
    serve_options: Sequence[str]  # of a service of its own

    def stages(self) -> list[Stage]:
        """The measurements to make."""
        asked = self.asked
        if self.stored is not None:
            return growth(asked, self.stored)
        if asked.batch is None and asked.concurrency is None and asked.rate is None:
            return usual(asked.protocol, yardsticks=self.yardsticks)
        return chosen(asked, yardsticks=self.yardsticks)

    def told(self) -> dict[str, object]:
        """The settings as the report tells them."""
        return {
            "protocol": self.asked.protocol,
            "batch": self.asked.batch,
            "concurrency": self.asked.concurrency,
            "rate": self.asked.rate,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "stored": self.stored,
            "servers": self.servers,
        }


async def measure(setting: Setting, display: Display) -> Report:
    """Load the service stage by stage; what it stored is removed afterwards."""
    load_average = round(os.getloadavg()[0], 2)
    async with contextlib.AsyncExitStack() as stack:
        target = await stack.enter_async_context(
            running(setting.servers, insecure=setting.insecure)
            if setting.servers
            else started(setting.serve_options)
        )
        owner = await stack.enter_async_context(tenant(target, display.note))
        url = await stack.enter_async_context(bare(target, owner))
        findings = await run(
            setting.stages(),
            Places(target, owner, url),
            seconds=setting.seconds,
            rounds=setting.rounds,
            display=display,
        )
        folder = None if target.settings.database_url else target.settings.data_dir
        about = {
            **machine(folder),
            "postgres": target.db.info.server_version // 10_000,
            "loadAverageBefore": load_average,
        }
        return report(findings, about, {**setting.told(), "organizationId": owner.organization_id})
