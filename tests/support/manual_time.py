"""Time that stands still until a test advances it, and a service that goes by it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from core.clock import Clock
from core.postgres import sessions
from core.postgres.partitions import ensure_partitions
from core.timestamps import from_datetime
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, make_tenant, now_us

US_PER_SECOND = 1_000_000


class ManualTime:
    """A wall clock and a monotonic one that move together, and only forward."""

    def __init__(self) -> None:
        self.now_us = now_us()
        self._seconds = 1_000.0
        self.clock = Clock(lambda: self.now_us, lambda: self._seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass; exact to the microsecond, and for buckets if it is a binary fraction."""
        self.now_us += round(seconds * US_PER_SECOND)
        self._seconds += seconds

    def advance_to(self, us: int) -> None:
        """Let time pass until a moment in microseconds since the epoch."""
        self.advance((us - self.now_us) / US_PER_SECOND)
        self.now_us = us

    def next_month_us(self) -> int:
        """When the next calendar month begins, UTC."""
        now = datetime.fromtimestamp(self.now_us / US_PER_SECOND, UTC)
        years, month = divmod(now.month, 12)
        return from_datetime(datetime(now.year + years, month + 1, 1, tzinfo=UTC))


class TimedService(NamedTuple):
    """A running service and its time."""

    addresses: Addresses
    time: ManualTime

    async def tenant(self, **options: Any) -> Tenant:
        """A new organization; options as :func:`tests.support.tenant.make_tenant`."""
        return await make_tenant(self.addresses.database_url, **options)

    async def ensure_partitions(self) -> None:
        """Do once what the service's maintenance does every ten minutes of real time."""
        async with await sessions.connect(self.addresses.database_url) as db:
            await ensure_partitions(db, self.time.now_us)
