"""The plan of a run: the usual rows, or those of a load that the operator has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from core.limits import MAX_BATCH_EVENTS
from service.bench.at_rest import at_rest
from service.bench.rows import (
    COPY,
    Measurement,
    Row,
    Stage,
    alone,
    bare_unary,
    echo,
    http,
    streams,
    unary,
)

# One-event requests beside a stream: enough for a percentile, too few to be a load themselves.
BESIDE_REQUESTS_PER_SECOND: Final = 200.0
BESIDE_CONNECTIONS: Final = 16
# The lowest rate of the stream at half speed, for a round in which nothing was acked before.
MIN_BATCHES_PER_SECOND: Final = 1.0

Protocol = Literal["http", "grpc", "grpc-unary", "both", "at-rest"]


@dataclass(frozen=True)
class Choice:
    """A load as the operator chose it; None stands for the usual.

    ``rate``: events a second, None for a new batch with each answer.
    """

    protocol: Protocol
    batch: int | None
    concurrency: int | None
    rate: int | None
    idempotency_keys: bool

    @property
    def is_usual(self) -> bool:
        """Whether nothing but the protocol was chosen."""
        return (self.batch, self.concurrency, self.rate) == (None, None, None)


def stages(choice: Choice, stored: int | None, *, yardsticks: bool) -> list[Stage]:
    """The stages of a run; with ``stored`` the load is measured before and after so many events."""
    if stored is not None:
        return _growth(choice, stored)
    if choice.protocol == "at-rest":
        return [Stage(at_rest(choice.idempotency_keys, yardsticks=yardsticks))]
    if choice.is_usual:
        return [Stage(_usual(choice.protocol, yardsticks=yardsticks))]
    measurements = [Measurement((COPY,))] if yardsticks else []
    return [Stage(measurements + _chosen(choice, yardsticks, ""))]


def _usual(protocol: Protocol, *, yardsticks: bool) -> list[Measurement]:
    """Full and single-event batches, each beside its yardstick."""
    by_copy = "copy" if yardsticks else None
    rows = [COPY] if yardsticks else []
    if protocol in ("grpc", "both"):
        rows += _usual_streams(by_copy)
    if protocol != "http":
        rows += _usual_calls(by_copy)
    if protocol in ("http", "both"):
        rows += _usual_requests(by_copy)
    measurements = [Measurement((row,)) for row in rows]
    if protocol == "both":
        measurements.append(_stream_beside_requests())
    return measurements


def _usual_streams(by_copy: str | None) -> list[Row]:
    full = MAX_BATCH_EVENTS
    return [
        streams("grpc_1", "gRPC stream, 500 a batch, 1 producer", by_copy, full, 1),
        streams("grpc_4", "gRPC streams, 500 a batch, 4 producers", by_copy, full, 4),
    ]


def _usual_calls(by_copy: str | None) -> list[Row]:
    small = unary(
        "unary_1",
        "gRPC calls, 1 a call, 32 at a time",
        "bare_1" if by_copy else None,
        batch=1,
        calls=32,
        idempotency_keys=True,
    )
    large = unary(
        "unary_500",
        "gRPC calls, 500 a call, 16 at a time",
        by_copy,
        batch=MAX_BATCH_EVENTS,
        calls=16,
    )
    if not by_copy:
        return [small, large]
    return [bare_unary("bare_1", "bare gRPC, 1 a call, 32 at a time", 1, 32), small, large]


def _usual_requests(by_copy: str | None) -> list[Row]:
    small = http(
        "http_1",
        "HTTP, 1 a request, 64 connections",
        "echo_1" if by_copy else None,
        batch=1,
        connections=64,
        idempotency_keys=True,
    )
    large = http(
        "http_500",
        "HTTP, 500 a request, 8 connections",
        by_copy,
        batch=MAX_BATCH_EVENTS,
        connections=8,
    )
    if not by_copy:
        return [small, large]
    return [
        echo("echo_1", "echo, 1 a request, 64 connections", 1, 64),
        small,
        alone("alone_1", "a transaction a request, 64 connections", 64, "http_1"),
        echo("echo_500", "echo, 500 a request, 8 connections", MAX_BATCH_EVENTS, 8),
        large,
    ]


def _stream_beside_requests() -> Measurement:
    """A stream at half of the speed just measured, and a trickle of small requests beside it."""
    full = MAX_BATCH_EVENTS

    def half(speeds: Mapping[str, float]) -> float:
        return max(speeds["grpc_1"] / 2, MIN_BATCHES_PER_SECOND * full)

    stream = streams("half_grpc", "gRPC stream at half of its speed …", None, full, 1, half)
    requests = http(
        "half_http",
        "… and HTTP, 1 a request, 200 a second",
        None,
        batch=1,
        connections=BESIDE_CONNECTIONS,
        rate=BESIDE_REQUESTS_PER_SECOND,
        idempotency_keys=True,
    )
    return Measurement((stream, requests))


def _growth(choice: Choice, stored: int) -> list[Stage]:
    """The chosen load with no events stored, and with ``stored`` of them."""
    without = _chosen(choice, False, "")
    filled = [
        Measurement(
            tuple(
                Row(f"{row.name}_stored", row.title, row.load, row.unit, row.name)
                for row in measurement.rows
            )
        )
        for measurement in _chosen(choice, False, f", {stored:,} stored")
    ]
    return [Stage(without), Stage(filled, stored)]


def _chosen(choice: Choice, yardsticks: bool, suffix: str) -> list[Measurement]:
    """The chosen load over each protocol; ``suffix`` ends the titles."""
    batch = choice.batch or MAX_BATCH_EVENTS
    pace = "" if choice.rate is None else f", {choice.rate:,} events/s"
    rows = []
    if choice.protocol in ("grpc", "both"):
        producers = choice.concurrency or 1
        many = "1 producer" if producers == 1 else f"{producers} producers"
        title = f"gRPC stream, {batch} a batch, {many}{pace}{suffix}"
        by_copy = "copy" if yardsticks else None
        rows.append(streams("grpc", title, by_copy, batch, producers, lambda _: choice.rate))
    if choice.protocol == "grpc-unary":
        calls = choice.concurrency or 16
        title = f"{batch} a call, {calls} at a time"
        if yardsticks:
            rows.append(bare_unary("bare", f"bare gRPC, {title}", batch, calls))
        by = ("bare" if batch == 1 else "copy") if yardsticks else None
        rows.append(
            unary(
                "unary",
                f"gRPC calls, {title}{pace}{suffix}",
                by,
                batch=batch,
                calls=calls,
                rate=None if choice.rate is None else choice.rate / batch,
                idempotency_keys=choice.idempotency_keys,
            )
        )
    if choice.protocol in ("http", "both"):
        connections = choice.concurrency or 8
        title = f"{batch} a request, {connections} connections"
        if yardsticks:
            rows.append(echo("echo", f"echo, {title}", batch, connections))
        by = ("echo" if batch == 1 else "copy") if yardsticks else None
        rows.append(
            http(
                "http",
                f"HTTP, {title}{pace}{suffix}",
                by,
                batch=batch,
                connections=connections,
                rate=None if choice.rate is None else choice.rate / batch,
                idempotency_keys=choice.idempotency_keys,
            )
        )
    return [Measurement((row,)) for row in rows]
