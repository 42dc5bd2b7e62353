"""The stream's example and the README's, as they stand, on the oldest and newest versions."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.running_service import Addresses
from tests.support.stream_example import deliver_through_cuts
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio

CLIENT: Final = Path(__file__).parents[3] / "client"
RUN_SECONDS: Final = 60


async def test_example(server: Addresses, tenant: Tenant, python: Path) -> None:
    example = CLIENT / "examples" / "python" / "stream.py"
    await deliver_through_cuts(
        lambda address: [python, "-W", "error", example, address, "example"],
        server,
        tenant,
        PYTHONPATH=str(CLIENT),
    )


async def test_readme(server: Addresses, tenant: Tenant, python: Path) -> None:
    text = (CLIENT / "README.md").read_text("utf-8").partition("## Streams")[2]
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = "\n".join(blocks).replace("127.0.0.1:50051", server.grpc)
    process = await asyncio.create_subprocess_exec(
        *(python, "-c", code),
        env={**os.environ, "PYTHONPATH": str(CLIENT), "WEPEOPLE_API_KEY": tenant.key},
    )
    assert await asyncio.wait_for(process.wait(), RUN_SECONDS) == 0
    assert len(await tenant.events()) == len(blocks) == 2
