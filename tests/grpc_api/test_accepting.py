"""Accepting calls, and the internals of grpc.aio that grpc_api/accepting.py relies on.

If the first test fails after an upgrade, the library has changed: look at that file before the
ceiling in pyproject.toml is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import tomllib
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from grpc_api.accepting import (
    Acceptor,
    Metadata,
    UnaryMethod,
    library_handlers,
)
from tests.support.waiting import eventually

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
    operations = ("SendInitialMetadata", "SendMessage", "SendStatusFromServer")
    for operation in (*operations, "ReceiveCloseOnServer"):
        assert hasattr(cygrpc, f"{operation}Operation")
    assert {"read", "invocation_metadata", "peer"} <= set(dir(cygrpc._ServicerContext))
    for function, expected in (
        (cygrpc.execute_batch, "grpc_call_wrapper operations loop"),
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

    async def answer(self, context: Any) -> tuple[bytes, Metadata]:
        """Note the turn."""
        self.began.append(self.count)
        return b"", ()

    async def serve(self, calls: int) -> None:
        """Answer so many calls that come at once."""
        async with _serving(self.answer) as target:
            self._turn()
            try:
                await asyncio.to_thread(_call_at_once, target, calls)
            finally:
                self._ended = True


@contextlib.asynccontextmanager
async def _serving(answer: Any) -> AsyncIterator[str]:
    """Serve a method; where its server is."""
    method = UnaryMethod(answer, bytes)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_registered_method_handlers("test.Service", library_handlers({"Answer": method}))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    accepting = asyncio.create_task(Acceptor(server, {METHOD: method}, lambda _: False).run())
    try:
        yield f"127.0.0.1:{port}"
    finally:
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


@pytest.mark.parametrize("accepted_by", ["library", "us"])
async def test_a_call_that_its_client_cancels_is_cancelled(accepted_by: str) -> None:
    begun: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()

    async def wait(_: object) -> tuple[bytes, Metadata]:
        task = asyncio.current_task()
        assert task is not None
        begun.put_nowait(task)
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async with _serving(wait) as target, grpc.aio.insecure_channel(target) as channel:
        method: Any = channel.unary_unary(METHOD)
        # The library accepts the first call, and we accept the second.
        calls = [method(b"") for _ in range(1 if accepted_by == "library" else 2)]
        serving = [await asyncio.wait_for(begun.get(), PATIENCE_SECONDS) for _ in calls]
        for call in calls:
            call.cancel()
        _, unfinished = await asyncio.wait(serving, timeout=PATIENCE_SECONDS)
        assert not unfinished


@pytest.mark.parametrize("calls", [1, 2])
async def test_an_answer_has_its_metadata(calls: int) -> None:
    async def answer(context: Any) -> tuple[bytes, Metadata]:
        return await context.read() + b"!", (("x-name", "value"),)

    async with _serving(answer) as target, grpc.aio.insecure_channel(target) as channel:
        method: Any = channel.unary_unary(METHOD)
        made = [method(b"hello") for _ in range(calls)]
        for call in made:
            assert await call == b"hello!"
            assert ("x-name", "value") in tuple(await call.initial_metadata())
            assert await call.code() is grpc.StatusCode.OK


async def test_a_call_whose_method_crashes_ends_and_tells_nothing() -> None:
    async def crash(context: Any) -> tuple[bytes, Metadata]:
        raise ZeroDivisionError("a secret")

    async with _serving(crash) as target, grpc.aio.insecure_channel(target) as channel:
        method: Any = channel.unary_unary(METHOD)
        for _ in ("accepted by the library", "accepted by us"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(b"", timeout=PATIENCE_SECONDS)
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert not caught.value.details()


async def test_nothing_is_left_of_a_call_that_fails(uncollected: None) -> None:
    class Witness:
        """Gone when the frame that made it is."""

    left: list[weakref.ref[Witness]] = []

    async def refuse(context: Any) -> tuple[bytes, Metadata]:
        witness = Witness()
        left.append(weakref.ref(witness))
        await context.abort(grpc.StatusCode.NOT_FOUND, "no")
        raise AssertionError("unreachable")

    async with _serving(refuse) as target, grpc.aio.insecure_channel(target) as channel:
        method: Any = channel.unary_unary(METHOD)
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(b"")
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        await eventually(lambda: not any(one() for one in left), "they are gone")
