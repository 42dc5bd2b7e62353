"""Fixtures of the journal's own tests."""

from __future__ import annotations

import pytest

import core.journal.writer
from core.errors import StreamError
from core.models import StreamPosition
from tests.support.direct_writer import DirectWriter


@pytest.fixture(params=["optimistic", "stepwise"])
async def each_mode(
    request: pytest.FixtureRequest, quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transactions are all optimistic first, or all stepwise after one that was not as expected.

    The worker of the events is known: otherwise no transaction would be optimistic.
    """
    await quota_of_five.write(quota_of_five.request(1))
    await quota_of_five.tenant.rows("DELETE FROM events")
    await quota_of_five.tenant.rows("DELETE FROM quota_usage")
    stepwise = request.param == "stepwise"
    monkeypatch.setattr(core.journal.writer, "STEPWISE_SECONDS", 3_600 if stepwise else 0)
    [refused] = await quota_of_five.write(
        quota_of_five.request(1, position=StreamPosition("nobody", 1, 1))
    )
    assert isinstance(refused, StreamError)
