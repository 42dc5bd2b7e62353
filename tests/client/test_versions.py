"""The environment in which the client is tried with the oldest of what it needs."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "client" / "pyproject.toml"


def test_the_oldest_versions_are_the_lower_bounds(oldest: Path) -> None:
    requirements = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    bounds = dict(requirement.split(">=") for requirement in requirements)
    code = (
        "import json, sys; from importlib.metadata import version;"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([oldest, "-c", code, *bounds], capture_output=True, check=True)
    installed = json.loads(done.stdout)
    assert {name: re.sub(r"(\.0)+$", "", version) for name, version in installed.items()} == bounds
