"""The examples of stream clients in other languages deliver each event once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.generators.tools import GENERATE_SECONDS, GO_MODULES, NODE_MODULES, missing, run
from tests.support.running_service import Addresses
from tests.support.stream_example import deliver_through_cuts
from tests.support.tenant import Tenant

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT / "client" / "examples"
PROTO = PROJECT / "proto"
BUF = Path(sys.executable).parent / "buf"

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(GENERATE_SECONDS)]


def need(*tools: str | Path) -> None:
    if absent := missing(tools):
        pytest.skip(f"not here: {', '.join(absent)} (.ci/run installs them)")


async def test_go(server: Addresses, tenant: Tenant, tmp_path: Path) -> None:
    need("go", GO_MODULES)
    folder = tmp_path / "go"
    shutil.copytree(EXAMPLES / "go", folder)
    run(folder, BUF, "generate", PROTO)
    run(folder, "go", "vet", ".")
    run(folder, "go", "build", "-o", "stream", ".")
    await deliver_through_cuts(
        lambda address: [folder / "stream", address, "example"], server, tenant
    )


async def test_typescript(server: Addresses, tenant: Tenant, tmp_path: Path) -> None:
    need("node", NODE_MODULES / "@grpc" / "grpc-js")
    folder = tmp_path / "typescript"
    shutil.copytree(EXAMPLES / "typescript", folder)
    (folder / "node_modules").symlink_to(NODE_MODULES)
    run(folder, "npm", "run", "build")
    await deliver_through_cuts(
        lambda address: ["node", folder / "out" / "stream.js", PROTO, address, "example"],
        server,
        tenant,
    )
