"""A whole answer: one write, of the bytes that uvicorn makes of two messages."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from http_api.cycle import CLOSE, WHOLE_ANSWER, Cycle

pytestmark = pytest.mark.anyio

BODY = b'{"ok":true}'
HEADERS = [(b"content-length", b"%d" % len(BODY)), (b"x-request-id", b"req_1")]


class Written(asyncio.Transport):
    """A transport that keeps what is written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


async def answered(
    *messages: dict[str, object],
    keep_alive: bool = True,
    default_headers: list[tuple[bytes, bytes]] | None = None,
    disconnected: bool = False,
) -> Written:
    transport = Written()
    logger = logging.getLogger(__name__)
    cycle = Cycle(
        scope={"type": "http", "method": "POST"},  # type: ignore[typeddict-item]
        transport=transport,
        flow=FlowControl(transport),
        logger=logger,
        access_logger=logger,
        access_log=False,
        default_headers=default_headers or [],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )
    cycle.disconnected = disconnected
    for message in messages:
        await cycle.send(message)
    assert cycle.response_complete is not disconnected
    return transport


def whole() -> dict[str, object]:
    return {"type": WHOLE_ANSWER, "status": 202, "headers": list(HEADERS), "body": BODY}


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("default_headers", [[(b"date", b"today")], [CLOSE]])
async def test_a_whole_answer_is_one_write_of_what_two_messages_would_be(
    keep_alive: bool, default_headers: list[tuple[bytes, bytes]]
) -> None:
    options: dict[str, Any] = {"keep_alive": keep_alive, "default_headers": default_headers}
    parts = await answered(
        {"type": "http.response.start", "status": 202, "headers": list(HEADERS)},
        {"type": "http.response.body", "body": BODY},
        **options,
    )
    one = await answered(whole(), **options)
    assert one.writes == [b"".join(parts.writes)]
    assert one.is_closed == parts.is_closed


async def test_nothing_is_written_to_a_client_that_is_gone() -> None:
    assert (await answered(whole(), disconnected=True)).writes == []
