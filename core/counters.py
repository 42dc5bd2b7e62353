"""The counters: what a process has done, counted in cells of memory that others may read.

Each process writes its own cells and nobody else's, so counting takes no lock: one addition for a
request, a few for a batch or a group, none for an event. Every series exists from the start, and
labels have only the values listed here: what clients and tenants call themselves is never among
them.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from core.error_codes import ErrorCode, StreamReason
from core.models import Rejection

if TYPE_CHECKING:
    Cells = list[float] | memoryview[float]

OK: Final = "ok"
OTHER: Final = "other"  # an endpoint or a code without a name of its own
CANCELLED: Final = "cancelled"  # the client went away
PROTOCOLS: Final = ("http", "grpc")
ENDPOINTS: Final = ("ping", "events", "snapshots", "stream", OTHER)
CODES: Final = (OK, *ErrorCode, *StreamReason, "not_found", "method_not_allowed", CANCELLED, OTHER)
GROUP_EVENTS: Final = (0.0, 1.0, 5.0, 20.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0)
COMMIT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Family(NamedTuple):
    """Series of one name, in consecutive cells from ``begin``, one for each entry of ``labels``.

    A histogram has a cell for each upper bound in ``bounds``, one for what is above the last,
    and one for the sum.
    """

    kind: str  # counter, gauge, histogram
    name: str
    meaning: str
    label_names: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    bounds: tuple[float, ...]
    begin: int

    @property
    def size(self) -> int:
        """The number of its cells."""
        return len(self.bounds) + 2 if self.bounds else len(self.labels)


class _Layout:
    def __init__(self) -> None:
        self.families: list[Family] = []
        self.size = 0

    def add(
        self,
        kind: str,
        name: str,
        meaning: str,
        labels: dict[str, tuple[str, ...]] | None = None,
        bounds: tuple[float, ...] = (),
    ) -> Family:
        labels = labels or {}
        values = tuple(itertools.product(*(map(str, one) for one in labels.values())))
        family = Family(kind, name, meaning, tuple(labels), values, bounds, self.size)
        self.families.append(family)
        self.size += family.size
        return family


_layout: Final = _Layout()
_REQUESTS: Final = _layout.add(
    "counter",
    "wepeople_requests",
    "Requests and streams that ended, by what they were answered.",
    {"protocol": PROTOCOLS, "endpoint": ENDPOINTS, "code": CODES},
)
_ACCEPTED: Final = _layout.add("counter", "wepeople_events_accepted", "Events stored.")
_SNAPSHOTS: Final = _layout.add("counter", "wepeople_snapshots_accepted", "Snapshots stored.")
_REJECTED: Final = _layout.add(
    "counter",
    "wepeople_events_rejected",
    "Events refused one by one, by code.",
    {"code": tuple(ErrorCode)},
)
_GROUPS: Final = _layout.add(
    "counter",
    "wepeople_journal_transactions",
    "Transactions of the journal, by their outcome.",
    {"outcome": ("committed", "failed")},
)
_GROUP_EVENTS: Final = _layout.add(
    "histogram",
    "wepeople_journal_transaction_events",
    "Events and snapshots offered in one transaction.",
    bounds=GROUP_EVENTS,
)
_COMMIT_SECONDS: Final = _layout.add(
    "histogram",
    "wepeople_journal_commit_seconds",
    "How long it took to write one transaction, its commit included.",
    bounds=COMMIT_SECONDS,
)
_WAITING: Final = _layout.add(
    "gauge", "wepeople_journal_waiting_requests", "Requests and batches that wait for the journal."
)
_STREAMS: Final = _layout.add("gauge", "wepeople_open_streams", "gRPC streams being served.")

FAMILIES: Final = tuple(_layout.families)
CELLS: Final = _layout.size

_REQUEST_CELLS: Final = {
    labels: _REQUESTS.begin + place for place, labels in enumerate(_REQUESTS.labels)
}
_REJECTED_CELLS: Final = {
    code: _REJECTED.begin + place for place, (code,) in enumerate(_REJECTED.labels)
}


class Counters:
    """The counts of one process, in ``CELLS`` numbers.

    They go on from what the cells hold, so that a process which takes another's place lets no
    counter fall.
    """

    def __init__(self, cells: Cells | None = None) -> None:
        self._cells: Cells = [0.0] * CELLS if cells is None else cells

    def request(self, protocol: str, endpoint: str, code: str) -> None:
        """Count a request or stream that has ended; a code that is none of ``CODES`` as other."""
        if (protocol, endpoint, code) not in _REQUEST_CELLS:
            code = OTHER
        self._cells[_REQUEST_CELLS[protocol, endpoint, code]] += 1

    def accept(self, events: int) -> None:
        """Count stored events."""
        self._cells[_ACCEPTED.begin] += events

    def accept_snapshot(self) -> None:
        """Count a stored snapshot."""
        self._cells[_SNAPSHOTS.begin] += 1

    def reject(self, rejected: Iterable[Rejection]) -> None:
        """Count refused events."""
        for code, count in Counter(one.code for one in rejected).items():
            self._cells[_REJECTED_CELLS[code]] += count

    def transaction(self, events: int, seconds: float, *, committed: bool) -> None:
        """Count a transaction that the journal has written, or could not write."""
        self._cells[_GROUPS.begin + (not committed)] += 1
        self._observe(_GROUP_EVENTS, events)
        self._observe(_COMMIT_SECONDS, seconds)

    def waiting(self, requests: int) -> None:
        """Tell how many requests wait for the journal."""
        self._cells[_WAITING.begin] = requests

    def stream(self, opened: int) -> None:
        """Count a stream that opens, 1, or ends, -1."""
        self._cells[_STREAMS.begin] += opened

    def begin(self) -> None:
        """Set to nothing what ends with a process: its queue and its streams."""
        self._cells[_WAITING.begin] = self._cells[_STREAMS.begin] = 0

    def _observe(self, family: Family, value: float) -> None:
        self._cells[family.begin + bisect_left(family.bounds, value)] += 1
        self._cells[family.begin + len(family.bounds) + 1] += value

    def cells(self) -> Sequence[float]:
        """The counts, in the order of ``FAMILIES``."""
        return self._cells
