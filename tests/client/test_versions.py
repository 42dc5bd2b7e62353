"""The client runs on the oldest and on the newest of what it needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.generators.tools import TOOLS
from tests.support.running_service import Addresses
from tests.support.stream_example import deliver_through_cuts
from tests.support.tenant import Tenant

CLIENT = Path(__file__).parents[2] / "client"
EXAMPLE = CLIENT / "examples" / "python" / "stream.py"
OLDEST = TOOLS / "oldest-client" / "bin" / "python"  # as `.ci/run` has installed it

pytestmark = pytest.mark.anyio
needs_oldest = pytest.mark.skipif(
    not OLDEST.exists(), reason="there is no environment with the oldest versions (.ci/run)"
)


@needs_oldest
def test_the_oldest_environment_has_the_lower_bounds() -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    bounds = dict(requirement.split(">=") for requirement in project["dependencies"])
    code = (
        "import json, sys; from importlib.metadata import version;"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run(
        [OLDEST, "-c", code, *bounds], capture_output=True, check=True, timeout=60
    )
    installed = json.loads(done.stdout)
    assert {name: re.sub(r"(\.0)+$", "", version) for name, version in installed.items()} == bounds


@pytest.mark.parametrize(
    "python", [pytest.param(OLDEST, marks=needs_oldest, id="oldest"), Path(sys.executable)]
)
async def test_each_event_is_stored_once_though_the_connection_is_cut(
    server: Addresses, tenant: Tenant, python: Path
) -> None:
    await deliver_through_cuts(
        lambda address: [python, "-W", "error", EXAMPLE, address, "example"],
        server,
        tenant,
        PYTHONPATH=str(CLIENT),
    )
