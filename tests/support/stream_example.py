"""An example of a stream's client, tried: it is cut off twice, and each event counts once."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.running_service import Addresses
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant, event

EVENTS: Final = 3_000
CUT_AFTER_BYTES: Final = (40_000, 60_000)  # of the first connection, and of the second
RUN_SECONDS: Final = 60

CommandFor = Callable[[str], Sequence[str | Path]]


async def deliver_through_cuts(
    command_for: CommandFor, server: Addresses, tenant: Tenant, **variables: str
) -> None:
    """Run an example, whose command has the address of the service, and look at what is stored.

    It is run twice, the second time with a line more.
    """
    lines = [
        json.dumps(
            event(metadata={"n": n, "ä": "€"}, duration=60, timestamp="2026-04-19T12:05:00Z")
        )
        for n in range(EVENTS + 1)
    ]
    variables |= {"WEPEOPLE_API_KEY": tenant.key}
    cuts = iter(CUT_AFTER_BYTES)
    async with TcpProxy(server.grpc, lambda: next(cuts, None)) as proxy:
        counts = await _run(command_for(proxy.address), lines[:EVENTS], variables)
        assert proxy.connections > len(CUT_AFTER_BYTES)
    assert counts["accepted"] + counts["duplicate"] == EVENTS
    again = await _run(command_for(server.grpc), lines, variables)
    assert again == {"accepted": 1, "rejected": 0, "duplicate": 0}
    rows = await tenant.events()
    stored = Counter(json.loads(row["metadata"])["n"] for row in rows)
    assert stored == Counter(range(EVENTS + 1))
    assert {row["duration_seconds"] for row in rows} == {60}


async def _run(
    command: Sequence[str | Path], lines: Sequence[str], variables: Mapping[str, str]
) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **variables},
    )
    try:
        async with asyncio.timeout(RUN_SECONDS):
            output, problems = await process.communicate("\n".join(lines).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, problems.decode()
    counts: dict[str, Any] = json.loads(output)
    return counts
