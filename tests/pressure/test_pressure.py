"""The short form of every pressure: a few seconds each (`make pressure` runs them for minutes)."""

from __future__ import annotations

import pytest

from tests.pressure.kinds import PRESSURES
from tests.pressure.pressure import Pressure
from tests.pressure.service import Service
from tests.pressure.trial import Trial

SECONDS = 4.0
UNLOADED_SECONDS = 2.0

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]


@pytest.mark.parametrize("pressure", PRESSURES.values(), ids=list(PRESSURES))
def test_a_quiet_tenant_is_served_beside(pressure: Pressure, database_url: str) -> None:
    with Service(database_url, descriptors=pressure.descriptors) as service:
        trial = Trial(pressure, service, unloaded_seconds=UNLOADED_SECONDS)
        result = trial.run(SECONDS, watch_memory=False)
    assert not list(result.broken_bounds())
