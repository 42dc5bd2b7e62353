"""Quotas: charged with the events of a transaction, and only those."""

from __future__ import annotations

import pytest

from core.errors import IngestError
from core.models import Actor, Receipt
from tests.support.direct_writer import DirectWriter

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_mode")]

NOBODY = Actor(worker_id="wrk_" + "0" * 26)


def accepted(outcome: object) -> int:
    """The number of events that an outcome says are stored."""
    assert isinstance(outcome, Receipt), outcome
    return outcome.accepted


async def test_only_what_is_stored_is_charged(quota_of_five: DirectWriter) -> None:
    await quota_of_five.write(quota_of_five.request(3, key="first"))
    _, fresh = await quota_of_five.write(
        quota_of_five.request(3, key="first"), quota_of_five.request(1)
    )
    assert isinstance(fresh, Receipt)
    assert fresh.quota_left == 1
    assert await quota_of_five.tenant.used() == 4
    refused, fresh = await quota_of_five.write(
        quota_of_five.request(3, actor=NOBODY), quota_of_five.request(1)
    )
    assert isinstance(refused, IngestError)
    assert refused.code == "worker_not_found"
    assert accepted(fresh) == 1
    assert await quota_of_five.tenant.used() == 5


async def test_a_quota_that_does_not_suffice_is_given_in_order(quota_of_five: DirectWriter) -> None:
    first, second, third = await quota_of_five.write(
        quota_of_five.request(3), quota_of_five.request(3), quota_of_five.request(1)
    )
    assert isinstance(second, Receipt)
    assert (accepted(first), accepted(second), len(second.rejected)) == (3, 2, 1)
    assert isinstance(third, IngestError)
    assert third.code == "quota_exceeded"
    assert await quota_of_five.tenant.used() == 5
