"""The figures of a load: a histogram of latencies, and throughput and latency over time."""

from __future__ import annotations

import time
from typing import Final

from hdrh.histogram import HdrHistogram
from msgspec import Struct

MAX_LATENCY_US: Final = 600_000_000
SIGNIFICANT_DIGITS: Final = 3
# Intervals of the figures over time: short enough to show a stall, and not too many.
MIN_INTERVAL_SECONDS: Final = 0.25
MAX_INTERVALS: Final = 240

now = time.perf_counter  # one clock for all of this


class Latency(Struct, frozen=True, rename="camel"):
    """Percentiles in milliseconds, exact to three digits."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float


class Interval(Struct, frozen=True, rename="camel"):
    """The answers of an interval that begins ``second`` seconds after the warm-up."""

    second: float
    events_per_second: float
    p50_ms: float
    p99_ms: float


class Result(Struct, frozen=True, rename="camel"):
    """A load's figures. ``unsent``: requests that were due and not sent before the end."""

    seconds: float
    events: int
    requests: int
    unsent: int
    latency_ms: Latency
    timeline: list[Interval]


class Recorder:
    """Counts answers between two moments; answers before them are warm-up.

    Latency counts from the moment a request was meant to be sent. That is when it was sent, or
    earlier with a rate, if the answer before it was late.
    """

    def __init__(self, begins: float, seconds: float) -> None:
        self.begins = begins
        self.ends = begins + seconds
        self.events = 0
        self._seconds = seconds
        self._requests = 0
        self._unsent = 0
        self._histogram = HdrHistogram(1, MAX_LATENCY_US, SIGNIFICANT_DIGITS)
        self._interval_seconds = max(MIN_INTERVAL_SECONDS, seconds / MAX_INTERVALS)
        self._interval = HdrHistogram(1, MAX_LATENCY_US, 2)
        self._interval_number = 0
        self._interval_events = 0
        self._timeline: list[Interval] = []

    def answered(self, intended: float, events: int) -> None:
        """Count an answer that comes at this moment."""
        at = now()
        if intended >= self.begins:
            # Also if it comes after the end: leaving out the slowest would be flattering.
            self._histogram.record_value(_us(at - intended))
        if self.begins <= at < self.ends:
            self._requests += 1
            self.events += events
            number = int((at - self.begins) / self._interval_seconds)
            if number != self._interval_number:
                self._end_interval(number)
            self._interval_events += events
            self._interval.record_value(_us(at - intended))

    def unsent(self, intended: float) -> None:
        """Count a request that was due and not sent: it would have taken this long at least."""
        if intended >= self.begins:
            self._unsent += 1
            self._histogram.record_value(_us(now() - intended))

    def _end_interval(self, number: int) -> None:
        self._timeline.append(
            Interval(
                round(self._interval_number * self._interval_seconds, 3),
                round(self._interval_events / self._interval_seconds, 1),
                _ms(self._interval, 50),
                _ms(self._interval, 99),
            )
        )
        for empty in range(self._interval_number + 1, number):
            # Nothing was answered: that is what a stall looks like.
            self._timeline.append(Interval(round(empty * self._interval_seconds, 3), 0, 0, 0))
        self._interval.reset()
        self._interval_events = 0
        self._interval_number = number

    def result(self) -> Result:
        """The figures, once everything is answered or given up."""
        self._end_interval(max(round(self._seconds / self._interval_seconds), 1))
        percentiles = (_ms(self._histogram, percentile) for percentile in (50, 90, 99, 99.9, 100))
        return Result(
            self._seconds,
            self.events,
            self._requests,
            self._unsent,
            Latency(*percentiles),
            self._timeline,
        )


def _us(seconds: float) -> int:
    return min(max(int(seconds * 1_000_000), 1), MAX_LATENCY_US)


def _ms(histogram: HdrHistogram, percentile: float) -> float:
    return round(int(histogram.get_value_at_percentile(percentile)) / 1_000, 3)
