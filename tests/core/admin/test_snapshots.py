"""Snapshots as operators read them."""

from __future__ import annotations

from uuid import UUID

import pytest

from core import ids
from core.admin import snapshots, workers
from core.admin.cell_sessions import at_home
from tests.support.tenant import Tenant, make_tenant, now_us

pytestmark = pytest.mark.anyio

HISTORY = """
INSERT INTO snapshot_history (
    organization_id, id, app_id, worker_id, snapshot_type, occurred_at, metrics, metadata)
VALUES (%s, %s, %s, %s, %s, now(), %s, NULL)
"""
CARD = """
INSERT INTO snapshot_cards (
    organization_id, worker_id, app_id, snapshot_type, snapshot_id, occurred_at)
VALUES (%s, %s, %s, %s, %s, now())
"""


async def store(tenant: Tenant, worker_id: UUID, metrics: str, *, card: bool) -> UUID:
    """Store a snapshot, received now, as the journal does."""
    organization, app, snapshot = tenant.organization.id, tenant.app.id, ids.new(now_us())
    await tenant.rows(HISTORY, organization, snapshot, app, worker_id, "tickets_open", metrics)
    if card:
        await tenant.rows(CARD, organization, worker_id, app, "tickets_open", snapshot)
    return snapshot


async def test_cards_are_the_current_snapshots_and_the_history_has_all(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    organization = tenant.organization.id
    async with await tenant.connect() as db:
        alex, zoe = [
            (await workers.create(at_home(db), organization, name, None, now_us())).id
            for name in ("Alex", "Zoe")
        ]
        old = await store(tenant, alex, '{"open": 1.0}', card=False)
        new = await store(tenant, alex, '{"open": 2.0}', card=True)
        others = await store(tenant, zoe, "{}", card=True)

        cards = await snapshots.cards(db, organization)
        assert [card.id for card in cards] == [new, others]
        assert cards[0].metrics == '{"open": 2.0}'
        assert [card.id for card in await snapshots.cards(db, organization, zoe)] == [others]

        history = await snapshots.history(db, organization, None, 10)
        assert [(one.id, one.is_card) for one in history] == sorted(
            [(old, False), (new, True), (others, True)], reverse=True
        )
        assert history[0].received_us == ids.created_us(history[0].id)
        assert len(await snapshots.history(db, organization, alex, 10)) == 2
        assert len(await snapshots.history(db, organization, alex, 1)) == 1
