"""The service made worse on purpose: it answers before the commit. A soak must catch it.

    python -m tests.pressure.weakened serve ...

Batches of requests are answered as if all of them were accepted, and written a moment later.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from core.clock import Clock
from core.errors import IngestError
from core.ingest import Ingestor
from core.models import AcceptedEvent, Receipt
from service.cli.main import main

HASTE_SECONDS: Final = 0.05

_ingest: Final = Ingestor.ingest
_writing: Final[set[asyncio.Task[None]]] = set()


async def _write_later(ingestor: Ingestor, caller: Any, batch: Any) -> None:
    await asyncio.sleep(HASTE_SECONDS)
    with contextlib.suppress(IngestError):
        await _ingest(ingestor, caller, batch)


async def _ingest_hastily(ingestor: Ingestor, caller: Any, batch: Any) -> Receipt:
    if batch.streamed:
        return await _ingest(ingestor, caller, batch)
    task = asyncio.create_task(_write_later(ingestor, caller, batch))
    _writing.add(task)
    task.add_done_callback(_writing.discard)
    echo = AcceptedEvent("ticket.resolved", Clock().now_us())
    count = len(batch.events)
    return Receipt(batch.request_id, count, [echo] * count, [])


if __name__ == "__main__":
    Ingestor.ingest = _ingest_hastily  # type: ignore[method-assign, assignment]
    main()
