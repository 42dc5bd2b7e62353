"""Idempotency keys in the transaction of the data they protect."""

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


async def test_a_replay_takes_nothing_from_those_it_is_written_with(
    quota_of_five: DirectWriter,
) -> None:
    await quota_of_five.write(quota_of_five.request(3, key="first"))
    replay, fresh = await quota_of_five.write(
        quota_of_five.request(3, key="first"), quota_of_five.request(2)
    )
    assert isinstance(replay, Receipt)
    assert replay.replayed
    assert accepted(fresh) == 2
    assert await quota_of_five.tenant.used() == 5
    assert len(await quota_of_five.tenant.events()) == 5


async def test_a_key_of_which_nothing_is_written_is_free_again(quota_of_five: DirectWriter) -> None:
    for _ in range(2):
        refused, fresh = await quota_of_five.write(
            quota_of_five.request(1, key="a", actor=NOBODY), quota_of_five.request(1)
        )
        assert isinstance(refused, IngestError)
        assert accepted(fresh) == 1
    [first] = await quota_of_five.write(quota_of_five.request(1, key="a"))
    assert isinstance(first, Receipt)
    assert (first.accepted, first.replayed) == (1, False)
    assert await quota_of_five.tenant.used() == 3
