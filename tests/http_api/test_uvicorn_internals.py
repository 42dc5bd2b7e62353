"""The internals of uvicorn that the HTTP connections and their server rely on, by name.

A failure here says that uvicorn changed one of them: read its new source, then adapt the module
and this file. pyproject.toml holds uvicorn below its next minor version.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from http_api.cycle import Cycle
from http_api.parsing import RequestParser
from http_api.protocol import HttpProtocol, _RequestFlowControl
from http_api.server import _Server

# Methods that are overridden, and methods whose order of steps the overrides rely on.
SOURCES: dict[Callable[..., object], str] = {
    HttpToolsProtocol.connection_made: "6efb565ff3d36b91",
    HttpToolsProtocol.connection_lost: "c91a4c9bf2e29c55",
    HttpToolsProtocol.data_received: "010a7ae59a5d3b1a",
    HttpToolsProtocol.send_400_response: "ae5a4a3782b646fd",
    HttpToolsProtocol.on_message_begin: "96d377fdc7c2baef",
    HttpToolsProtocol.on_url: "37be44e962b04ca8",
    HttpToolsProtocol.on_header: "65d62c044f61fdbd",
    HttpToolsProtocol.on_headers_complete: "1ea8589acfad92d8",
    HttpToolsProtocol.on_body: "dba9c32aeba35b6a",
    HttpToolsProtocol.on_message_complete: "1fbad42dc31fc01f",
    HttpToolsProtocol.on_response_complete: "64e254f28e389e76",
    HttpToolsProtocol.timeout_keep_alive_handler: "8b53bf5f2e202970",
    HttpToolsProtocol.shutdown: "d7351fa33f00d430",
    HttpToolsProtocol._unset_keepalive_if_required: "00a6a4e47214e68e",
    HttpToolsProtocol.eof_received: "5652627579a02369",
    HttpToolsProtocol.resume_writing: "7844bbaa8cceb1ef",
    HttpToolsProtocol._start_asgi_task: "9c08c2571ae9b038",
    HttpToolsProtocol._should_upgrade: "8fcad1ab8e096739",
    RequestResponseCycle.run_asgi: "0f33f2449a444bc2",
    RequestResponseCycle.send: "abdd8601b326a8da",
    RequestResponseCycle.receive: "8124ae006be71184",
    FlowControl.__init__: "0152d94a040758b5",
    FlowControl.pause_reading: "7c27388bb984e9ed",
    FlowControl.resume_reading: "a0429d30857e8488",
    uvicorn.Server.__init__: "c150b55284f7511e",
    uvicorn.Server.startup: "2aa1d70a244bfcf2",
    uvicorn.Server.on_tick: "60ea49b06ccf68c1",
    uvicorn.Server.capture_signals: "e1bbcd4770d1c887",
    uvicorn.Server.shutdown: "9b33c50562992b1e",
}


def digest(function: Callable[..., object]) -> str:
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]


@pytest.mark.parametrize("function", SOURCES, ids=lambda function: function.__qualname__)
def test_source_is_the_one_that_was_read(function: Callable[..., object]) -> None:
    assert digest(function) == SOURCES[function]


def test_every_override_still_overrides() -> None:
    added = {
        "render_refusal",
        "evict",
        "is_authenticated",
        "check_time",
        "wants_body",
        "abort_connections",
        "announce_stop",
    }
    pairs: list[tuple[type, type]] = [
        (Cycle, RequestResponseCycle),
        (RequestParser, HttpToolsProtocol),
        (HttpProtocol, HttpToolsProtocol),
        (_RequestFlowControl, FlowControl),
        (_Server, uvicorn.Server),
    ]
    for ours, theirs in pairs:
        overrides = {
            name
            for name, value in vars(ours).items()
            if inspect.isfunction(value) and (not name.startswith("_") or name == "__init__")
        }
        assert overrides - added <= vars(theirs).keys()
        assert {getattr(theirs, name) for name in overrides - added} <= SOURCES.keys()


@pytest.fixture
def connection() -> HttpToolsProtocol:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    class Loop:
        """Stands for the event loop, of which a connection that is not made needs nothing."""

    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None)
    return HttpToolsProtocol(config, ServerState(), {}, Loop())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "attribute",
    [
        "app",
        "connections",
        "cycle",
        "flow",
        "headers",
        "loop",
        "parser",
        "pipeline",
        "server_state",
        "timeout_keep_alive",
        "timeout_keep_alive_task",
        "transport",
    ],
)
def test_a_connection_has_the_attribute(connection: HttpToolsProtocol, attribute: str) -> None:
    assert hasattr(connection, attribute)


def test_a_connection_begins_as_the_overrides_expect(connection: HttpToolsProtocol) -> None:
    assert vars(connection)["cycle"] is None
    assert connection.timeout_keep_alive_task is None
    assert not connection.pipeline
    assert connection.ws_protocol_class is None  # so that no upgrade is accepted
    assert connection.server_state.default_headers == []


def test_a_cycle_has_what_the_overrides_touch() -> None:
    source = inspect.getsource(RequestResponseCycle.__init__)
    assert {"keep_alive", "on_response"} <= inspect.signature(
        RequestResponseCycle
    ).parameters.keys()
    assert "self.response_complete = False" in source


def test_status_lines_are_whole() -> None:
    assert STATUS_LINE[400] == b"HTTP/1.1 400 Bad Request\r\n"


def test_a_server_has_what_ending_its_connections_needs() -> None:
    server = uvicorn.Server(uvicorn.Config("app:app"))
    assert server.server_state.connections == set()
    assert (server.should_exit, server.force_exit) == (False, False)
    assert inspect.signature(server.serve).parameters.keys() == {"sockets"}
    assert hasattr(uvicorn.Server, "capture_signals")
