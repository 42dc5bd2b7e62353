"""The counters of a server process, in a registry of prometheus_client.

Labels have only the values listed here, and the names of cells, which an operator gives: the names
of clients and tenants are never among them.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from core.error_codes import ErrorCode, OperatorCode, StreamReason
from core.models import Rejection

OK: Final = "ok"
OTHER: Final = "other"  # an endpoint or a code without a name of its own
CANCELLED: Final = "cancelled"  # the client went away
PROTOCOLS: Final = ("http", "grpc")
MANAGE: Final = "manage"
CONSOLE: Final = "console"
ENDPOINTS: Final = ("ping", "events", "snapshots", "stream", MANAGE, CONSOLE, OTHER)
NOT_FOUND: Final = "not_found"
METHOD_NOT_ALLOWED: Final = "method_not_allowed"
CODES: Final = tuple(
    dict.fromkeys((OK, *ErrorCode, *StreamReason, *OperatorCode, CANCELLED, OTHER))
)
# The reasons for which a single event is refused.
EVENT_CODES: Final = (
    ErrorCode.INVALID_BODY,
    ErrorCode.MISSING_ACTOR,
    ErrorCode.FORBIDDEN_EVENT_TYPE,
    ErrorCode.WORKER_NOT_FOUND,
    ErrorCode.QUOTA_EXCEEDED,
)
_ANY: Final = (OK, ErrorCode.INTERNAL_ERROR, CANCELLED)
_KEYED: Final = (
    *_ANY,
    ErrorCode.MISSING_AUTHORIZATION,
    ErrorCode.INVALID_KEY,
    ErrorCode.KEY_REVOKED,
    ErrorCode.KEY_EXPIRED,
    ErrorCode.PLAN_DISABLED,
    ErrorCode.RATE_LIMITED,
)
_WITH_BODY: Final = (*_KEYED, ErrorCode.INVALID_BODY, ErrorCode.BATCH_TOO_LARGE)
_EVENTS: Final = tuple(dict.fromkeys((*_WITH_BODY, *EVENT_CODES)))
_SNAPSHOTS: Final = tuple(code for code in _EVENTS if code != ErrorCode.FORBIDDEN_EVENT_TYPE)
# The codes that an endpoint can end a request with. Their series are there from the start, at 0: a
# rate needs a first value to rise from.
ENDPOINT_CODES: Final = {
    ("http", "ping"): (*_KEYED, METHOD_NOT_ALLOWED),
    ("http", "events"): (*_EVENTS, METHOD_NOT_ALLOWED),
    ("http", "snapshots"): (*_SNAPSHOTS, METHOD_NOT_ALLOWED),
    ("http", MANAGE): (OK, CANCELLED, *OperatorCode),
    ("http", CONSOLE): (OK, CANCELLED, *OperatorCode),
    ("http", OTHER): (*_ANY, ErrorCode.INVALID_BODY, NOT_FOUND, METHOD_NOT_ALLOWED),
    ("grpc", "ping"): _WITH_BODY,
    ("grpc", "events"): _EVENTS,
    ("grpc", "snapshots"): _SNAPSHOTS,
    ("grpc", "stream"): (*_WITH_BODY, *StreamReason),
}
TRANSACTION_EVENTS: Final = (0.0, 1.0, 5.0, 20.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0)
COMMIT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ANSWER_SECONDS: Final = (*COMMIT_SECONDS, 12.5)
MAX_REQUEST_SERIES: Final = len(PROTOCOLS) * len(ENDPOINTS) * len(CODES)


class Counters:
    """The counts of one process.

    With several processes they are kept in files that all of them read, one set of files for each
    process slot (service/metrics.py). A process that replaces another goes on from its counts, so
    that no counter falls; its gauges begin anew.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "wepeople_requests",
            "Requests and streams that ended, by protocol, endpoint and outcome.",
            ["protocol", "endpoint", "code"],
            registry=registry,
        )
        self._request_series = lru_cache(MAX_REQUEST_SERIES)(self._requests.labels)
        for (protocol, endpoint), codes in ENDPOINT_CODES.items():
            for code in codes:
                self._request_series(protocol, endpoint, code)
        self._accepted = Counter("wepeople_events_accepted", "Events stored.", registry=registry)
        self._snapshots = Counter(
            "wepeople_snapshots_accepted", "Snapshots stored.", registry=registry
        )
        rejected = Counter(
            "wepeople_events_rejected",
            "Events refused one by one, by code.",
            ["code"],
            registry=registry,
        )
        self._rejected = {code: rejected.labels(code) for code in EVENT_CODES}
        transactions = Counter(
            "wepeople_journal_transactions",
            "Transactions of the journal, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._committed = transactions.labels("committed")
        self._failed = transactions.labels("failed")
        self._transaction_events = Histogram(
            "wepeople_journal_transaction_events",
            "Events and snapshots offered in one transaction.",
            buckets=TRANSACTION_EVENTS,
            registry=registry,
        )
        self._commit_seconds = Histogram(
            "wepeople_journal_commit_seconds",
            "Time to write one transaction, its commit included.",
            buckets=COMMIT_SECONDS,
            registry=registry,
        )
        self._add_latencies(registry)
        self._add_gauges(registry)
        self._add_rate_store(registry)

    def _add_latencies(self, registry: CollectorRegistry) -> None:
        answers = Histogram(
            "wepeople_request_seconds",
            "Time to answer a request that succeeded, from its head to its answer.",
            ["protocol", "endpoint"],
            buckets=ANSWER_SECONDS,
            registry=registry,
        )
        # A stream lasts; its batches have a histogram of their own.
        self._answer_seconds = {
            labels: answers.labels(*labels) for labels in ENDPOINT_CODES if labels[1] != "stream"
        }
        self._batch_seconds = Histogram(
            "wepeople_stream_batch_seconds",
            "Time to acknowledge a batch of a stream, from its turn to its ack.",
            buckets=ANSWER_SECONDS,
            registry=registry,
        )

    def _add_gauges(self, registry: CollectorRegistry) -> None:
        self._waiting = Gauge(
            "wepeople_journal_waiting_requests",
            "Requests and batches that wait for the journal.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._streams = Gauge(
            "wepeople_open_streams",
            "gRPC streams being served.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._cells_away = Gauge(
            "wepeople_cell_away",
            "Whether a cell besides the home cell takes no requests, by its name.",
            ["cell"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._waiting.set(0)
        self._streams.set(0)

    def _add_rate_store(self, registry: CollectorRegistry) -> None:
        self._rates_alone = Gauge(
            "wepeople_rate_store_away",
            "Server processes that count rates without the store that services share.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._rate_store_losses = Counter(
            "wepeople_rate_store_losses",
            "Times that the store of rates did not answer and the service's own count took over.",
            registry=registry,
        )
        self._rates_alone.set(0)

    def request(self, protocol: str, endpoint: str, code: str, seconds: float) -> None:
        """Count a request or stream that has ended; a code that is none of ``CODES`` as other.

        Only requests that succeeded are among the latencies: refusals are quick, and many of them
        would hide that others wait.
        """
        self._request_series(protocol, endpoint, code if code in CODES else OTHER).inc()
        if code == OK and (latencies := self._answer_seconds.get((protocol, endpoint))) is not None:
            latencies.observe(seconds)

    def stream_batch(self, seconds: float) -> None:
        """Count a batch of a stream that was acknowledged."""
        self._batch_seconds.observe(seconds)

    def accept(self, events: int) -> None:
        """Count stored events."""
        self._accepted.inc(events)

    def accept_snapshot(self) -> None:
        """Count a stored snapshot."""
        self._snapshots.inc()

    def reject(self, rejected: Iterable[Rejection]) -> None:
        """Count refused events."""
        for code, count in Tally(one.code for one in rejected).items():
            self._rejected[code].inc(count)

    def transaction(self, events: int, seconds: float, *, committed: bool) -> None:
        """Count a transaction that the journal has written, or could not write."""
        (self._committed if committed else self._failed).inc()
        self._transaction_events.observe(events)
        self._commit_seconds.observe(seconds)

    def waiting(self, more: int) -> None:
        """Count requests that wait for a journal from now on; fewer than 0 wait no more."""
        self._waiting.inc(more)

    def stream(self, opened: int) -> None:
        """Count a stream that opens, 1, or ends, -1."""
        self._streams.inc(opened)

    def cell_away(self, name: str, *, away: bool) -> None:
        """Set whether a cell takes no requests."""
        self._cells_away.labels(name).set(away)

    def lose_rate_store(self) -> None:
        """Count a loss of the store of rates; it is away from now on."""
        self._rates_alone.set(1)
        self._rate_store_losses.inc()

    def regain_rate_store(self) -> None:
        """Note that the store of rates answers again."""
        self._rates_alone.set(0)
