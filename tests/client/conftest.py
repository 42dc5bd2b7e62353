"""Clients of the shared service."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.generators.tools import TOOLS
from tests.grpc_api.conftest import one_event_loop

__all__ = ["oldest", "one_event_loop", "python"]


@pytest.fixture
def oldest() -> Path:
    """The Python of an environment with the oldest versions that the client runs on."""
    found = TOOLS / "oldest-client" / "bin" / "python"
    if not found.exists():
        pytest.skip("there is no environment with the oldest versions (.ci/run installs it)")
    return found


@pytest.fixture(params=["oldest", "newest"])
def python(request: pytest.FixtureRequest) -> Path:
    """The Python of an environment with the oldest versions, and that of the tests."""
    if request.param == "newest":
        return Path(sys.executable)
    found: Path = request.getfixturevalue("oldest")
    return found
