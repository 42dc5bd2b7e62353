"""The connections of one process: how many there may be, and which one gives way to a newcomer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Protocol

from core.access.fair_queue import STRANGERS, Flow
from core.descriptors import MAX_CONNECTIONS

MAX_DISCARDED_A_TURN: Final = 8  # reads of what nobody wants any more
NEWCOMER_SECONDS: Final = 1.0  # in which a stranger may yet show its key


class Connection(Protocol):
    """A client's connection, as far as its place here is concerned."""

    client: tuple[str, int] | None

    def is_authenticated(self) -> bool:
        """Whether the key of the request under way is known by now."""

    def evict(self) -> None:
        """End the connection, and leave unanswered what it asked for."""


class Discarding:
    """Reads the rest of bodies that were answered before they had come, a few in each turn.

    Their clients would otherwise take the turns of the event loop from all others.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def append(self, read: Callable[[], None]) -> None:
        """Have ``read`` called when it is its turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._renew)
        self._waiting.append(read)

    def _renew(self) -> None:
        for _ in range(min(MAX_DISCARDED_A_TURN, len(self._waiting))):
            self._waiting.popleft()()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._renew)


class Connections:
    """A bounded number of connections, in all and of one peer address.

    A newcomer to a full house takes the place of one that never authenticated, whether it is idle
    or waits for an answer: of that whose last request, or beginning, is the longest ago. If that is
    not :data:`NEWCOMER_SECONDS` ago, it takes the place of the longest idle of the party that holds
    most, all strangers being one. A connection in the middle of a request with a known key is never
    evicted.

    ``most``: the bound. ``refused``: how many found no place.
    """

    def __init__(
        self,
        most: int = MAX_CONNECTIONS,
        most_per_address: int | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self.discarding = Discarding()
        self.most = most
        self.refused = 0
        self._most_per_address = most_per_address
        self._flow_of: dict[Connection, Flow] = {}
        self._held: Counter[Flow] = Counter()
        # Those in no request, and since when, the one idle for longest first. Of strangers, those
        # in one too: a flood of requests that wait must not drive out who is idle for a moment.
        self._idle: dict[Flow, dict[Connection, float]] = {}
        self._addresses: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._flow_of)

    def add(self, connection: Connection) -> bool:
        """Take a new connection in; returns whether there is a place for it."""
        address = _address(connection)
        limit = self._most_per_address
        is_full = limit is not None and self._addresses[address] >= limit
        if is_full or (len(self._flow_of) >= self.most and not self.evict()):
            self.refused += 1
            return False
        self._addresses[address] += 1
        self._enter(connection, STRANGERS)
        return True

    def begin_request(self, connection: Connection) -> None:
        """Keep the connection from being evicted, or from being the first of all strangers'."""
        flow = self._flow_of.get(connection)
        if flow is not None:
            self._drop_idle(connection, flow)
            if flow == STRANGERS:
                self._add_idle(connection, flow)

    def end_request(self, connection: Connection, flow: Flow | None) -> None:
        """Note that the connection is idle; ``flow``: whose request it was, if that is known."""
        held_by = self._flow_of.get(connection)
        if held_by is None:
            return
        self._drop_idle(connection, held_by)
        if flow is not None and flow != held_by:
            self._leave(held_by)
            self._enter(connection, flow)
        else:
            self._add_idle(connection, held_by)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended; no matter if that was done before."""
        flow = self._flow_of.pop(connection, None)
        if flow is None:
            return
        self._drop_idle(connection, flow)
        self._leave(flow)
        address = _address(connection)
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def evict(self) -> bool:
        """End the connection that is to give way; returns False if none may."""
        flow = STRANGERS
        if not self._has_old_stranger():
            if not self._idle:
                return False
            flow = max(self._idle, key=lambda flow: (self._held[flow], flow == STRANGERS))
        connection = next(iter(self._idle[flow]))
        self.remove(connection)
        connection.evict()
        return True

    def _has_old_stranger(self) -> bool:
        """Whether the first of all strangers has had its time; who has a known key leaves them."""
        while strangers := self._idle.get(STRANGERS):
            connection, since = next(iter(strangers.items()))
            if not connection.is_authenticated():
                return self._seconds() - since >= NEWCOMER_SECONDS
            self._drop_idle(connection, STRANGERS)  # until the end of its request
        return False

    def _enter(self, connection: Connection, flow: Flow) -> None:
        self._flow_of[connection] = flow
        self._held[flow] += 1
        self._add_idle(connection, flow)

    def _add_idle(self, connection: Connection, flow: Flow) -> None:
        self._idle.setdefault(flow, {})[connection] = self._seconds()

    def _leave(self, flow: Flow) -> None:
        self._held[flow] -= 1
        if not self._held[flow]:
            del self._held[flow]

    def _drop_idle(self, connection: Connection, flow: Flow) -> None:
        idle = self._idle.get(flow)
        if idle is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle[flow]


def _address(connection: Connection) -> str:
    return connection.client[0] if connection.client else ""
