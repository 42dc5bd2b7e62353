"""Accepting calls, and the internals of grpc.aio that grpc_api/accepting.py relies on.

If the first test fails after an upgrade, the library has changed: look at that file before the
ceiling in pyproject.toml is raised.
"""

from __future__ import annotations

import asyncio
import time
import tomllib
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from grpc_api.accepting import Acceptor

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
METHOD = "/test.Service/Answer"
CALLS = 64
TURN_SECONDS = 0.005
PATIENCE_SECONDS = 60


def test_the_internals_are_those_that_are_known() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [pinned] = [one for one in dependencies if one.startswith("grpcio>")]
    assert pinned.endswith(",<1.86")
    assert {"_request_registered_call", "is_running"} <= set(dir(cygrpc.AioServer))
    assert issubclass(cygrpc._RequestCallError, Exception)
    for function, expected in (
        (cygrpc._handle_rpc, "method_name method_resolver interceptors rpc_state loop"),
        (cygrpc._schedule_rpc_coro, "rpc_coro rpc_state loop method_name"),
    ):
        names = function.__code__.co_varnames[: len(expected.split())]
        assert names == tuple(expected.split())


class Turns:
    """An event loop whose every turn takes long, and the turns in which calls began."""

    def __init__(self) -> None:
        self.count = 0
        self.began: list[int] = []
        self._ended = False

    def _turn(self) -> None:
        self.count += 1
        time.sleep(TURN_SECONDS)  # a busy loop is what is tested
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._turn)

    async def answer(self, _: object, context: Any) -> bytes:
        """Note the turn."""
        self.began.append(self.count)
        return b""

    async def serve(self, calls: int) -> None:
        """Answer so many calls that come at once."""
        handler: Any = grpc.stream_unary_rpc_method_handler(self.answer)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_registered_method_handlers("test.Service", {"Answer": handler})
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        accepting = asyncio.create_task(Acceptor(server, {METHOD: handler}).run())
        self._turn()
        try:
            await asyncio.to_thread(_call_at_once, f"127.0.0.1:{port}", calls)
        finally:
            self._ended = True
            await server.stop(None)
            await asyncio.wait_for(accepting, PATIENCE_SECONDS)


def _call_at_once(target: str, calls: int) -> None:
    with grpc.insecure_channel(target) as channel:
        grpc.channel_ready_future(channel).result(PATIENCE_SECONDS)
        method: Any = channel.unary_unary(METHOD)
        for answer in [method.future(b"", timeout=PATIENCE_SECONDS) for _ in range(calls)]:
            assert answer.result() == b""


async def test_calls_that_come_at_once_begin_several_in_a_turn() -> None:
    turns = Turns()
    await turns.serve(CALLS)
    assert len(turns.began) == CALLS
    # By itself the library would take six turns for each call.
    assert max(turns.began) - min(turns.began) < CALLS
