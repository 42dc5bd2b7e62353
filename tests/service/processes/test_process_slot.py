"""A process slot: how soon an ended process is replaced."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from service.processes.shared_state import SharedState
from service.processes.supervisor import FIRST_PAUSE_SECONDS, ProcessSlot

pytestmark = pytest.mark.anyio


class ScriptedSlot(ProcessSlot):
    """A slot whose processes are ready and live as long as the script says, then end."""

    def __init__(self, seconds: list[float]) -> None:
        super().__init__(0, SharedState.of_one(), {})
        self._script = iter(seconds)

    async def _run_process(self) -> str:
        self._ready_at = asyncio.get_running_loop().time()
        self.ready.set()
        seconds = next(self._script, None)
        if seconds is None:
            self.stop()
        else:
            self._ready_at -= seconds
        return "ended"


async def test_a_process_that_served_well_is_replaced_at_once_whatever_went_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lived = [60.0, 60.0, 0.0, 0.0, 0.0, 60.0, 0.0]
    with caplog.at_level(logging.ERROR):
        await ScriptedSlot(lived).run()
    pauses = [
        float(found[1])
        for record in caplog.records
        if (found := re.search(r"the next one starts in ([0-9.]+) s", record.getMessage()))
    ]
    first = FIRST_PAUSE_SECONDS
    assert pauses == [0.0, 0.0, first, 2 * first, 4 * first, 0.0, first]
