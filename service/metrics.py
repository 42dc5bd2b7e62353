"""The metrics page: what the whole shared_state has counted, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from core.counters import FAMILIES, Family
from service.processes.shared_state import SharedState

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class MetricsPage:
    """Renders the page, which is the same whichever worker is asked."""

    def __init__(self, shared_state: SharedState) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_CrewCollector(shared_state))

    def render(self) -> bytes:
        """The page as of now."""
        return generate_latest(self._registry)


class _CrewCollector(Collector):
    def __init__(self, shared_state: SharedState) -> None:
        self._crew = shared_state

    def collect(self) -> Iterable[Metric]:
        shared_state = self._crew
        yield GaugeMetricFamily("wepeople_workers", "Worker processes wanted.", shared_state.size)
        yield GaugeMetricFamily(
            "wepeople_workers_ready", "Worker processes that accept traffic.", shared_state.ready()
        )
        yield CounterMetricFamily(
            "wepeople_worker_restarts",
            "Worker processes that were replaced.",
            shared_state.restarts(),
        )
        totals = shared_state.totals()
        for family in FAMILIES:
            yield _metric(family, totals[family.begin : family.begin + family.size])


def _metric(family: Family, cells: list[float]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.meaning)
        bounds = [*map(str, family.bounds), "+Inf"]
        counts = accumulate(cells[:-1])
        histogram.add_metric([], list(zip(bounds, counts, strict=True)), cells[-1])
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.meaning, labels=family.label_names)
    for labels, value in zip(family.labels, cells, strict=True):
        # Of the many combinations only those that have occurred.
        if value or len(family.label_names) < 2:
            metric.add_metric(labels, value)
    return metric
