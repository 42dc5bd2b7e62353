"""The log lines of refused requests: one for each, bounded in rate for each organization and code.

A flood of refusals costs a look-up each, and its lines tell how many there were beside them.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from core import ids
from core.clock import Clock
from core.error_codes import ErrorCode
from core.models import Caller

log = logging.getLogger(__name__)

MAX_LINES: Final = 10  # of one organization and code in a period
PERIOD_SECONDS: Final = 10.0
SWEEP_SECONDS: Final = 1.0
MAX_TRACKED: Final = 10_000  # organizations and codes; the lines of others are left out


class RefusedRequest(NamedTuple):
    """Facts about a refused request that its adapter knows.

    ``status`` is the protocol's. ``events``: the size of the batch, None if it was not read.
    """

    request_id: str
    protocol: str
    endpoint: str
    status: str
    events: int | None
    milliseconds: float | None


@dataclass(slots=True)
class _Period:
    ends_at: float  # monotonic seconds
    lines: int = 0
    left_out: int = 0


class RefusalLog:
    """Logs refused requests at level info, while :meth:`run` runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._periods: dict[tuple[UUID | None, ErrorCode], _Period] = {}

    def note(self, code: ErrorCode, request: RefusedRequest, caller: Caller | None) -> None:
        """Log a refusal, or count it if its organization had enough lines of that code.

        An ``internal_error`` is no refusal: it is logged with its cause.
        """
        if code is ErrorCode.INTERNAL_ERROR:
            return
        whose = None if caller is None else caller.organization_id
        period = self._periods.get((whose, code))
        if period is None:
            if len(self._periods) >= MAX_TRACKED:
                return
            period = _Period(self._clock.monotonic() + PERIOD_SECONDS)
            self._periods[whose, code] = period
        if period.lines >= MAX_LINES:
            period.left_out += 1
            return
        period.lines += 1
        facts: dict[str, object] = {"code": code.value, **request._asdict()}
        if caller is not None:
            facts |= {
                "organization": ids.text(ids.ORGANIZATION, caller.organization_id),
                "app": caller.app_slug,
                "key_hint": caller.key_hint,
            }
        log.info("refused a request", extra=facts)

    async def run(self) -> None:
        """Count what was left out, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep()

    def sweep(self) -> None:
        """End the periods that are over, each with a line that counts what was left out of it."""
        now = self._clock.monotonic()
        over = [key for key, period in self._periods.items() if period.ends_at <= now]
        for whose, code in over:
            left_out = self._periods.pop((whose, code)).left_out
            if left_out:
                facts = {"code": code.value, "left_out": left_out}
                if whose is not None:
                    facts["organization"] = ids.text(ids.ORGANIZATION, whose)
                log.info("refused more requests than these lines tell", extra=facts)
