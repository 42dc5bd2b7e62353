"""Accepting connections: several in a turn of the loop, and none without a descriptor."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from typing import Any

import pytest

from http_api import accepting
from http_api.accepting import Acceptor
from http_api.connections import Connections
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


class Exhausted(socket.socket):
    """A listener that finds no descriptor for the first few connections."""

    failures = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Fail as the kernel would."""
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


class CountedConnections(Connections):
    """Counts how often somebody was to give way."""

    evictions = 0

    def evict(self) -> bool:
        """Count."""
        self.evictions += 1
        return super().evict()


class Silent(asyncio.Protocol):
    """A connection of which the test only knows that it was made."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count."""
        Silent.made += 1


def listening(failures: int = 0) -> Exhausted:
    listener = Exhausted(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.failures = failures
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def clients(listener: socket.socket, count: int) -> list[socket.socket]:
    return [socket.create_connection(listener.getsockname()) for _ in range(count)]


@pytest.fixture(autouse=True)
def _made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Silent, "made", 0)
    monkeypatch.setattr(accepting, "EXHAUSTED_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(accepting, "BoundedReads", lambda connection, _buffer: connection)


@pytest.mark.parametrize(("turn_seconds", "most_turns"), [(0.05, 8), (0.0, 20)])
async def test_many_that_wait_are_accepted_in_one_turn_and_more_in_a_long_one(
    turn_seconds: float, most_turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    with listening() as listener:
        waiting = clients(listener, 50)
        acceptor = Acceptor(listener, Silent, Connections(100))  # type: ignore[arg-type]
        turns = 0
        while Silent.made < 50:
            turns += 1
            assert turns < most_turns
            now += turn_seconds
            await asyncio.sleep(0)
        assert turns > 10 or turn_seconds
        acceptor.close()
        await acceptor.wait_closed()
        for one in waiting:
            one.close()


async def test_without_a_descriptor_it_pauses_has_somebody_give_way_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    places = CountedConnections(100)
    with listening(failures=3) as listener:
        waiting = clients(listener, 2)
        acceptor = Acceptor(listener, Silent, places)  # type: ignore[arg-type]
        await eventually(lambda: Silent.made == 2, "both are accepted")
        acceptor.close()
        for one in waiting:
            one.close()
    assert places.evictions == 3  # and not as often as a loop turns
    assert len(caplog.records) == 3
