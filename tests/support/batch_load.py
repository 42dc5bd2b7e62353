"""Load on a service that is killed meanwhile, and the check that nothing of it is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import httpx

from tests.support.tenant import event
from tests.support.waiting import wait_until

RETRY_SECONDS: Final = 0.05
ACKNOWLEDGED_SECONDS: Final = 30.0
BATCH_SIZES: Final = (1, 3, 40)


class Service(Protocol):
    """One service, or whichever of several a balancer names."""

    @property
    def url(self) -> str: ...


class KeyHolder(Protocol):
    """Whoever has an API key."""

    @property
    def key(self) -> str: ...


@dataclass
class BatchLoad:
    """Clients that post batch after batch, each again under its key until it is acknowledged."""

    service: Service
    tenant: KeyHolder
    sent: Counter[str] = field(default_factory=Counter)  # events of each batch
    acknowledged: set[str] = field(default_factory=set)
    longest_seconds: float = 0.0  # from a batch's first attempt to its acknowledgement
    is_over: bool = False

    async def run(self, faults: Callable[[], None], clients: int = 6) -> None:
        """Load the service while faults happen, and until every client got its answer."""
        async with asyncio.TaskGroup() as group:
            for name in range(clients):
                group.create_task(self._client(name))
            try:
                await asyncio.to_thread(faults)
            finally:
                self.is_over = True

    def acknowledges(self, more: int, seconds: float = ACKNOWLEDGED_SECONDS) -> None:
        """Wait, in the thread of the faults, until so many more batches are acknowledged."""
        target = len(self.acknowledged) + more
        wait_until(
            lambda: len(self.acknowledged) >= target,
            f"{more} more batches are acknowledged",
            seconds=seconds,
        )

    def check(self, stored: Counter[str]) -> None:
        """Every batch was acknowledged in the end, and is there whole and once."""
        assert self.acknowledged == set(self.sent)
        assert stored == self.sent

    async def _client(self, name: int) -> None:
        """One client; ends after a batch, once it shall."""
        random_ = random.Random(name)
        async with httpx.AsyncClient(timeout=20) as http:
            number = 0
            while not self.is_over:
                number += 1
                batch = f"{name}-{number}"
                count = self.sent[batch] = random_.choice(BATCH_SIZES)
                events: list[dict[str, Any]] = [
                    event(f"w-{n % 7}", metadata={"batch": batch, "n": n}) for n in range(count)
                ]
                begun = time.monotonic()
                while True:
                    if await self._post(http, batch, events):
                        self.acknowledged.add(batch)
                        took_seconds = time.monotonic() - begun
                        self.longest_seconds = max(self.longest_seconds, took_seconds)
                        break
                    await asyncio.sleep(RETRY_SECONDS)

    async def _post(self, http: httpx.AsyncClient, batch: str, events: object) -> bool:
        """Whether the batch is acknowledged; a failure may only be a lost connection or a 500."""
        headers = {"Authorization": f"Bearer {self.tenant.key}", "Idempotency-Key": batch}
        url = f"{self.service.url}/api/v1/ingest/events"
        try:
            response = await http.post(url, json={"events": events}, headers=headers)
        except httpx.TransportError:
            return False
        if response.status_code == 500:
            assert response.json()["error"]["code"] == "internal_error"
            assert int(response.headers["retry-after"]) >= 1
            return False
        assert response.status_code == 202, response.text
        assert response.json()["accepted"] == self.sent[batch]
        return True
