"""The REST example and the README's, as they stand, over connections that break.

They run on the oldest and on the newest of what the client needs.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.http_proxy import Fault, HttpProxy
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio

CLIENT: Final = Path(__file__).parents[3] / "client"
README: Final = (CLIENT / "README.md").read_text("utf-8")
RUN_SECONDS: Final = 60


async def run(python: Path, code: str, base_url: str, key: str) -> str:
    """Run Python code; returns its output. Fails with all it said, if it fails."""
    process = await asyncio.create_subprocess_exec(
        *(python, "-W", "error", "-c", code),
        env={
            **os.environ,
            "PYTHONPATH": str(CLIENT),
            "WEPEOPLE_BASE_URL": base_url,
            "WEPEOPLE_API_KEY": key,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_example(server: Addresses, tenant: Tenant, python: Path) -> None:
    script = [None, Fault.LOSE_ANSWER, Fault.CUT]  # the ping, and twice the events
    async with HttpProxy(server.http, script) as proxy:
        code = (CLIENT / "examples" / "python" / "rest.py").read_text()
        said = await run(python, code, proxy.url, tenant.key)
    assert "sending as CRM Hub (crm-hub)\n2 events are stored\nevent 2 is not: " in said
    assert said.endswith("[2]\nthe card of crm-user-42 is stored\n")
    assert len(await tenant.events()) == 2
    assert len(await tenant.cards()) == 1


async def test_readme(server: Addresses, tenant: Tenant, python: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.partition("## REST")[2], re.DOTALL)
    (block,) = [one for one in blocks if "Client(" in one]
    async with HttpProxy(server.http, [Fault.CUT, None, Fault.LOSE_ANSWER]) as proxy:
        assert await run(python, block, proxy.url, tenant.key) == "crm-hub\n"
    assert len(await tenant.events()) == 1
    assert len(await tenant.cards()) == 1
