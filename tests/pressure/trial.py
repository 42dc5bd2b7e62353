"""One pressure against one service, beside a quiet tenant: what was seen, and what it should be."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.pressure.child import Child
from tests.pressure.ledger import stored_events, wrong_totals
from tests.pressure.pressure import EVERY_LANE, Pressure, Target
from tests.pressure.service import Service
from tests.support.waiting import wait_until

NEWCOMERS: Final = ("newcomer http", "newcomer grpc")
NEW_KEYS: Final = 60
WARM_SAMPLES: Final = 30  # of each lane, before what is compared with
PATIENCE_SECONDS: Final = 30.0
RECOVERY_SECONDS: Final = 30.0  # after which it counts as never
SETTLED_SAMPLES: Final = 10  # of each lane, in a row, show full speed again
BACK_SECONDS: Final = 60.0

MAX_NEWCOMER_SECONDS: Final = 2.0
MAX_RECOVERY_SECONDS: Final = 2.0
MAX_MEMORY_MIB: Final = 512.0
MAX_KEPT_MIB: Final = 100.0


class Sample(NamedTuple):
    """One request of the quiet tenant, by the clock that all processes share."""

    lane: str
    begin: float
    seconds: float
    problem: str | None
    label: str


@dataclass
class Latency:
    """Of one lane over one phase, in seconds."""

    p50: float
    p99: float
    count: int

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Latency:
        """Sum up; errors count with the time they took."""
        seconds = sorted(sample.seconds for sample in samples)
        if not seconds:
            return cls(float("inf"), float("inf"), 0)
        last = len(seconds) - 1
        return cls(seconds[last // 2], seconds[round(last * 0.99)], len(seconds))


def _nothing() -> dict[str, Latency]:
    return {lane: Latency.of(()) for lane in EVERY_LANE}


@dataclass
class Result:
    """What a trial saw."""

    pressure: Pressure
    unloaded: dict[str, Latency] = field(default_factory=_nothing)
    loaded: dict[str, Latency] = field(default_factory=_nothing)
    errors: Counter[str] = field(default_factory=Counter)
    newcomer_seconds: float = 0.0
    memory_start_mib: float = 0.0
    memory_peak_mib: float = 0.0
    memory_after_mib: float | None = None
    recovery_seconds: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)
    wrongly_stored: list[str] = field(default_factory=list)
    failure: str | None = None

    def broken_bounds(self) -> Iterator[str]:
        """Every bound of contract section 12 that did not hold."""
        if self.failure:
            yield self.failure
        for lane, count in self.errors.items():
            yield f"the quiet tenant got {count} times {lane}"
        bounds = self.pressure.bounds
        for lane in EVERY_LANE:
            unloaded = self.unloaded[lane]
            compared = unloaded.p99 if bounds.of_p99 else unloaded.p50
            most = max(bounds.max_seconds, bounds.max_ratio * compared)
            if self.loaded[lane].p99 > most:
                yield f"p99 over {lane} was {self.loaded[lane].p99:.3f} s, at most {most:.3f}"
        if self.newcomer_seconds > MAX_NEWCOMER_SECONDS:
            yield f"a newcomer waited {self.newcomer_seconds:.1f} s"
        if self.memory_peak_mib > MAX_MEMORY_MIB:
            yield f"memory was {self.memory_peak_mib:.0f} MiB"
        after = self.memory_after_mib
        if after is not None and after > self.memory_start_mib + MAX_KEPT_MIB:
            yield f"memory stayed at {after:.0f} MiB, {self.memory_start_mib:.0f} before"
        if self.recovery_seconds > MAX_RECOVERY_SECONDS:
            yield f"it took {self.recovery_seconds:.1f} s to recover"
        yield from self.wrongly_stored


class Trial:
    """Runs one pressure. ``seconds``: how long, once all of it is there."""

    def __init__(self, pressure: Pressure, service: Service, *, unloaded_seconds: float) -> None:
        self._service = service
        self._unloaded_seconds = unloaded_seconds
        self._samples: list[Sample] = []
        self._heard: list[Any] = []
        self.result = Result(pressure)

    def run(self, seconds: float, *, watch_memory: bool) -> Result:
        """Compare the quiet tenant without and with the pressure; then see it end."""
        result, service = self.result, self._service
        quiet, loud = service.tenants([{"new_keys": NEW_KEYS}, result.pressure.tenant])
        order = {"http": service.http_address, "grpc": service.grpc, "key": quiet["key"]}
        order["newcomers"] = quiet["new_keys"]
        with Child("tests.pressure.quiet", order, self._hear) as tenant:
            wait_until(self._is_warm, "the quiet tenant is served", seconds=PATIENCE_SECONDS)
            calm = time.monotonic()
            time.sleep(self._unloaded_seconds)  # this long is measured
            result.memory_start_mib = service.memory_mib()
            service.peak_mib = 0.0
            begin, end = self._press(loud, seconds)
            result.recovery_seconds = self._recovery(calm, begin, end)
            result.memory_peak_mib = service.peak_mib
            if watch_memory:
                result.memory_after_mib = self._memory_after()
            tenant.end()
        if not service.is_alive:
            result.failure = f"the service ended with status {service.process.returncode}"
        self._sum_up(calm, begin, end)
        self._check_stored(quiet["organization"], loud["organization"])
        return result

    def _hear(self, line: list[Any]) -> None:
        self._samples.append(Sample(*line))

    def _is_warm(self) -> bool:
        good = Counter(sample.lane for sample in self._samples if sample.problem is None)
        return all(good[lane] >= WARM_SAMPLES for lane in EVERY_LANE)

    def _press(self, loud: dict[str, Any], seconds: float) -> tuple[float, float]:
        """Make the pressure; returns when it began and when it ended."""
        host, _, port = self._service.grpc.rpartition(":")
        target = Target(
            self._service.http_address,
            (host, int(port)),
            self._service.database_url,
            loud["organization"],
            loud["key"],
        )
        order = {"name": self.result.pressure.name, "target": vars(target)}
        with Child("tests.pressure.load", order, self._heard.append) as load:
            wait_until(lambda: "begun" in self._heard, "the load begins", seconds=PATIENCE_SECONDS)
            begin = time.monotonic()
            wait_until(
                lambda: "full" in self._heard or not load.is_alive,
                "the load is full",
                seconds=PATIENCE_SECONDS,
            )
            time.sleep(seconds)  # this long is measured
            end = time.monotonic()
        told = self._heard[-1]
        if not isinstance(told, dict):
            self.result.failure = "the load generator failed"
        elif told["failure"]:
            self.result.failure = f"the load generator failed: {told['failure']}"
        return begin, end

    def _recovery(self, calm: float, begin: float, end: float) -> float:
        """Seconds from the end of the pressure until the quiet tenant is served as before."""
        before = _by_lane(self._samples, calm, begin)
        fast = {lane: max(0.1, 10 * Latency.of(before[lane]).p50) for lane in EVERY_LANE}
        deadline = end + RECOVERY_SECONDS
        while time.monotonic() < deadline and self._service.is_alive:
            time.sleep(0.05)
            after = _by_lane(self._samples, end, deadline)
            begins = [_settled(after[lane], fast[lane]) for lane in EVERY_LANE]
            settled = [begin for begin in begins if begin is not None]
            if len(settled) == len(begins) and self._service.is_ready():
                return max(settled) - end
        return RECOVERY_SECONDS

    def _memory_after(self) -> float:
        enough = self.result.memory_start_mib + MAX_KEPT_MIB
        deadline = time.monotonic() + BACK_SECONDS
        while self._service.memory_mib() > enough and time.monotonic() < deadline:
            time.sleep(0.5)
        return self._service.memory_mib()

    def _sum_up(self, calm: float, begin: float, end: float) -> None:
        result = self.result
        before, during = _by_lane(self._samples, calm, begin), _by_lane(self._samples, begin, end)
        for lane in EVERY_LANE:
            result.unloaded[lane] = Latency.of(before[lane])
            result.loaded[lane] = Latency.of(during[lane])
        newcomers = [sample for lane in NEWCOMERS for sample in during[lane]]
        result.newcomer_seconds = max((one.seconds for one in newcomers), default=float("inf"))
        result.errors.update(
            f"{sample.lane}: {sample.problem}"
            for samples in during.values()
            for sample in samples
            if sample.problem is not None
        )

    def _check_stored(self, quiet: str, loud: str) -> None:
        """Every acknowledged event is stored once; what got no answer is stored once or not."""
        result = self.result
        stored = stored_events(self._service.database_url, quiet)
        for sample in self._samples:
            if sample.lane in EVERY_LANE and not (
                stored[sample.label] <= 1 and (sample.problem or stored[sample.label])
            ):
                times = stored[sample.label]
                result.wrongly_stored.append(f"{sample.label} is stored {times} times")
        told = self._heard[-1]
        if not isinstance(told, dict):
            return
        result.answers = told["answers"]
        stored = stored_events(self._service.database_url, loud)
        result.wrongly_stored += wrong_totals(stored, told)


def _by_lane(samples: Iterable[Sample], begin: float, end: float) -> dict[str, list[Sample]]:
    """Those that were begun within a time, in the order of their beginnings."""
    lanes: dict[str, list[Sample]] = {lane: [] for lane in (*EVERY_LANE, *NEWCOMERS)}
    for sample in sorted(samples, key=lambda one: one.begin):
        if begin <= sample.begin < end:
            lanes[sample.lane].append(sample)
    return lanes


def _settled(samples: list[Sample], fast: float) -> float | None:
    """When the first of enough good answers in a row was asked for."""
    run: list[Sample] = []
    for sample in samples:
        run = [*run, sample] if sample.problem is None and sample.seconds <= fast else []
        if len(run) == SETTLED_SAMPLES:
            return run[0].begin
    return None
