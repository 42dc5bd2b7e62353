"""The short form of the soak, and that it sees what it is for."""

from __future__ import annotations

import pytest

from tests.pressure.load import take_descriptors
from tests.pressure.soak import FAULTS, WEAKENED, soak

SECONDS = 20.0
PRESSURES = ("single_events", "key_at_its_limit", "streams_of_one_tenant", "bodies_cut_off")

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]


def test_nothing_acknowledged_is_lost_or_doubled(database_url: str) -> None:
    take_descriptors()
    outcome = soak(database_url, SECONDS, seed=20_261_128, names=[*FAULTS, *PRESSURES])
    assert not outcome.problems
    assert outcome.done.total() >= 3


def test_a_service_that_answers_before_it_commits_is_caught(database_url: str) -> None:
    outcome = soak(database_url, 8.0, seed=1, names=["kill_server"], module=WEAKENED)
    assert any("was acknowledged" in problem for problem in outcome.problems)
