"""``/organizations/…/events``: pages of few events among many."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from core.admin import timeline
from http_api.paths import MANAGE_PATH
from tests.support.operator_tokens import make_operator
from tests.support.running_service import RunningService
from tests.support.tenant import event, make_tenant

pytestmark = pytest.mark.anyio


async def test_pages_lead_on_beyond_the_events_that_one_looks_at(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MAX_LOOKED_AT", 2)
    tenant = await make_tenant(database_url)
    _, token = await make_operator(database_url, "read")
    types = ["deal.won", *["ticket.resolved"] * 4]
    pages: list[list[Any]] = []
    with RunningService(database_url) as service:
        async with httpx.AsyncClient(base_url=service.addresses.http) as client:
            sent = await client.post(
                "/api/v1/ingest/events",
                headers={"Authorization": f"Bearer {tenant.key}"},
                json={"events": [event(eventType=one) for one in types]},
            )
            assert sent.status_code == 202
            path = f"{MANAGE_PATH}/organizations/{tenant.organization_id}/events"
            wanted: dict[str, Any] | None = {"eventType": "deal.won", "limit": 2}
            while wanted is not None:
                answer = await client.get(
                    path, params=wanted, headers={"Authorization": f"Bearer {token}"}
                )
                assert answer.status_code == 200, answer.text
                page = answer.json()
                pages.append([one["eventType"] for one in page["items"]])
                cursor = page["nextCursor"]
                wanted = None if cursor is None else {**wanted, "cursor": cursor}
    assert pages == [[], [], ["deal.won"]]
