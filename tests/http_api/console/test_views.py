"""A view on its own: what it tells while its database is away, and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from starlette.types import Message

from core.admin.errors import NotFoundError
from core.clock import Clock
from core.postgres.errors import DatabaseUnusableError
from http_api.console import views
from http_api.console.views import View, Views, message
from http_api.middleware import RequestContext

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "POLL_SECONDS", 0.001)


async def told(answers: Iterator[list[bytes] | Exception], open_views: Views) -> list[bytes]:
    """All that a view sends whose polls have these answers."""
    sent: list[bytes] = []

    async def poll() -> list[bytes]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(part: Message) -> None:
        sent.append(part.get("body", b""))

    scope: dict[str, Any] = {"wepeople.context": RequestContext(Clock())}
    await View(open_views, UUID(int=1), poll)(scope, receive, send)
    return [part for part in sent if part]


async def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    away = DatabaseUnusableError("away")
    answers: list[list[bytes] | Exception] = [[b"1"], away, away, [], [b"2"], NotFoundError("gone")]
    assert await told(iter(answers), Views()) == [
        b"1",
        message("away", ""),
        message("back", ""),
        b"2",
        message("ended", "gone"),
    ]


async def test_silence_is_broken_for_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "HEARTBEAT_SECONDS", 0.0)
    answers: list[list[bytes] | Exception] = [[], [b"1"], NotFoundError("gone")]
    assert await told(iter(answers), Views()) == [
        b":\n\n",
        b"1",
        message("ended", "gone"),
    ]


async def test_a_view_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_VIEW_SECONDS", 0.05)
    many: Iterator[list[bytes] | Exception] = iter([[b"x"]] * 1_000)
    assert set(await told(many, Views())) == {b"x"}


def test_a_message_keeps_its_lines_and_no_others() -> None:
    assert message("a", "x\r\ny\rz\n\u2028w") == (
        "event: a\ndata: x\ndata: y\ndata: z\ndata: \u2028w\n\n".encode()
    )
