"""The garbage collector looks seldom: what was refused is not left for it to find."""

from __future__ import annotations

import gc

import pytest

from core.journal.pending_events import PendingEvents
from core.models import EventBatch
from tests.support.driver import Driver
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio


def batches() -> int:
    """How many batches are in memory."""
    return sum(isinstance(found, EventBatch | PendingEvents) for found in gc.get_objects())


@pytest.mark.parametrize(
    "refused",
    [event(actor={"workerId": "wrk_" + "0" * 26}), event(eventType="not.allowed")],
    ids=["by the database", "before it"],
)
async def test_a_refused_batch_does_not_stay_in_memory(
    driver: Driver, tenant: Tenant, no_collector: None, refused: dict[str, object]
) -> None:
    before = batches()
    for _ in range(10):
        assert (await driver.ingest(tenant.key, [refused])).code
    assert batches() < before + 5
