"""The metrics page: the counts of all server processes, in the text format of Prometheus."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from core.counters import Counters
from service.processes.shared_state import SharedState

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
DISTRIBUTION: Final = "wepeople-ingest"
_BUILD: Final = ("version", "python")
# Between two renderings, each of which takes the event loop for some 10 ms.
RENDER_SECONDS: Final = 0.2

disable_created_metrics()  # type: ignore[no-untyped-call]


def count_in_files(folder: Path, slot: int) -> None:
    """Keep the counters made from now on in files of a process slot; once, before any is made.

    Named by slot rather than by process id, the files stay as many as the slots, and a process
    that replaces another goes on from its counts.
    """
    os.environ[FOLDER_VARIABLE] = os.fspath(folder)
    values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
        lambda: slot
    )


class MetricsPage:
    """The page, which is the same whichever process is asked; rendered once for all who wait."""

    def __init__(self, shared_state: SharedState, counters: Counters) -> None:
        self._registries = [CollectorRegistry(), counters.registry]
        self._registries[0].register(_Processes(shared_state))
        if folder := os.environ.get(FOLDER_VARIABLE):
            self._registries.pop()
            MultiProcessCollector(self._registries[0], folder)  # type: ignore[no-untyped-call]
        self._rendering: asyncio.Task[None] | None = None
        self._rendered_at = float("-inf")
        self.latest = b""

    async def renew(self) -> None:
        """Return once :attr:`latest` was rendered after the call."""
        if self._rendering is None:
            self._rendering = asyncio.create_task(self._render_when_due())
        await asyncio.shield(self._rendering)

    async def _render_when_due(self) -> None:
        now = asyncio.get_running_loop().time
        try:
            await asyncio.sleep(self._rendered_at + RENDER_SECONDS - now())
            self.latest = self.render()
        finally:
            self._rendered_at = now()
            self._rendering = None

    def render(self) -> bytes:
        """The page as of now."""
        return b"".join(map(generate_latest, self._registries))


class _Processes(Collector):
    """The server processes, as their supervisor knows them."""

    def __init__(self, shared_state: SharedState) -> None:
        self._shared_state = shared_state

    def collect(self) -> Iterable[Metric]:
        state = self._shared_state
        yield GaugeMetricFamily("wepeople_server_processes", "Server processes wanted.", state.size)
        yield GaugeMetricFamily(
            "wepeople_server_processes_ready",
            "Server processes that accept traffic.",
            state.ready(),
        )
        yield CounterMetricFamily(
            "wepeople_server_process_restarts",
            "Server processes that were replaced.",
            state.restarts(),
        )
        build = GaugeMetricFamily(
            "wepeople_build_info", "1, with the release and the Python it runs on.", labels=_BUILD
        )
        build.add_metric((version(DISTRIBUTION), platform.python_version()), 1.0)
        yield build
        yield from self._processes()

    def _processes(self) -> Iterable[Metric]:
        """Time, memory and descriptors of each process, by its slot, where the system tells."""
        families: dict[str, Metric] = {}
        for slot, process_id in self._shared_state.process_ids():
            collector = ProcessCollector(pid=partial(int, process_id), registry=None)
            for family in collector.collect():
                known = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    known.add_sample(sample.name, {"process": str(slot)}, sample.value)
        return families.values()
