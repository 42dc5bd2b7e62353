"""Wake-ups of the event loop, and the internals of grpc.aio that grpc_api/wakeups.py relies on.

If the first test fails after an upgrade, the library has changed: look at that file before the
ceiling in pyproject.toml is raised.
"""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import grpc
import pytest

from grpc_api import wakeups
from grpc_api.server import GrpcServer
from tests.support.waiting import eventually


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """What the event loop is asked to watch, and what it is to call then."""
    asked: list[tuple[Any, Any]] = []
    loops: Any = asyncio.SelectorEventLoop
    add_reader = loops.add_reader

    def add(loop: Any, one: Any, look: Any) -> None:
        asked.append((one, look))
        add_reader(loop, one, look)

    monkeypatch.setattr(loops, "add_reader", add)
    return asked


def test_the_library_has_its_own_look_called_for_a_socket(watched: list[Any]) -> None:
    async def connect() -> None:
        await grpc.aio.insecure_channel("127.0.0.1:1").close()

    asyncio.run(connect())  # a loop of its own, which the library does not know yet
    [(one, look)] = watched
    assert isinstance(one, socket.socket)
    assert one.gettimeout() == 0  # it does not block
    assert look.func.__name__ == "_handle_events"


def test_the_server_has_wake_ups_taken_together(watched: list[Any]) -> None:
    servicer: Any = SimpleNamespace(
        begin_unkeyed=None,
        returns=None,
        methods=dict,
        connections=SimpleNamespace(most=8),
        unknown_methods=lambda: grpc.method_handlers_generic_handler("unknown", {}),
    )
    options: Any = {"shared": False, "tls": None, "drain_seconds": 0.0}

    async def start() -> None:
        GrpcServer(servicer, AsyncMock(), address="127.0.0.1:0", **options).start()

    asyncio.run(start())
    [(_, look)] = watched
    assert look.__module__ == wakeups.__name__


class Looks:
    """Takes one byte in each look, as the library does."""

    def __init__(self) -> None:
        self.watched, self.woken = socket.socketpair()
        self.watched.setblocking(False)
        self.count = 0

    def look(self) -> None:
        """Take a byte; raises BlockingIOError if there is none."""
        self.watched.recv(1)
        self.count += 1


@pytest.mark.anyio
async def test_many_wake_ups_are_one() -> None:
    loop, looks = asyncio.get_running_loop(), Looks()
    with wakeups.taken_together():
        loop.add_reader(looks.watched, looks.look)
    try:
        looks.woken.send(b"1" * 100)
        await eventually(lambda: looks.count > 0, "a look")
        looks.woken.send(b"1")
        await eventually(lambda: looks.count > 1, "another look")
        assert looks.count == 2
    finally:
        loop.remove_reader(looks.watched)
        looks.watched.close()
        looks.woken.close()


@pytest.mark.anyio
async def test_what_is_behind_an_operation_that_fails_is_looked_after() -> None:
    loop, looks, failures = asyncio.get_running_loop(), Looks(), []

    def look() -> None:
        if not looks.count:
            looks.look()
        else:
            looks.count += 1
        if looks.count < 3:
            raise RuntimeError("Event loop is closed")

    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    with wakeups.taken_together():
        loop.add_reader(looks.watched, look)
    try:
        looks.woken.send(b"11")
        await eventually(lambda: looks.count == 3, "other looks without another wake-up")
        assert len(failures) == 2
    finally:
        loop.set_exception_handler(before)
        loop.remove_reader(looks.watched)
        looks.watched.close()
        looks.woken.close()
