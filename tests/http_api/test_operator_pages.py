"""Health and metrics beside those who ask without end."""

from __future__ import annotations

import contextlib

import pytest

from service.metrics import MetricsPage
from tests.support.raw_http import connect, head
from tests.support.running_service import Addresses

pytestmark = pytest.mark.anyio

CONNECTIONS = 60


async def test_a_flood_of_questions_for_the_metrics_shares_few_renderings(
    server: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderings = 0
    render = MetricsPage.render

    def counted(page: MetricsPage) -> bytes:
        nonlocal renderings
        renderings += 1
        return render(page)

    monkeypatch.setattr(MetricsPage, "render", counted)
    monkeypatch.setattr("service.metrics.RENDER_SECONDS", 0.5)
    async with contextlib.AsyncExitStack() as stack:
        flood = [await stack.enter_async_context(connect(server.http)) for _ in range(CONNECTIONS)]
        for connection in flood:
            await connection.send(head(None, "GET", "/metrics"))
        for connection in flood:
            answer = await connection.answer()
            assert (answer.status, answer.body[:7]) == (200, b"# HELP ")
    assert 1 <= renderings < CONNECTIONS // 4
