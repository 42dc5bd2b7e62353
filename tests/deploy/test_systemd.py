"""The systemd unit: valid, and with as few rights as systemd can take away."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.deploy import files

PROGRAM: Final = shutil.which("systemd-analyze")
# On systemd's scale, from 0 to 10: the network, local sockets and the host's root are left.
MAX_EXPOSURE: Final = 1.5

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no systemd-analyze here (Debian: systemd)")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert PROGRAM is not None
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)


def installed(folder: Path, text: str) -> str:
    """The unit as if its program were installed."""
    path = folder / files.UNIT.name
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    path.write_text(text)
    return str(path)


def test_it_is_valid(tmp_path: Path) -> None:
    text = files.UNIT.read_text()
    verified = analyze("verify", "--man=no", installed(tmp_path, text))
    assert (verified.returncode, verified.stderr) == (0, "")
    spoiled = text.replace("ProtectHome=yes", "ProtectHomes=yes")
    assert "ProtectHomes" in analyze("verify", "--man=no", installed(tmp_path, spoiled)).stderr


def test_it_is_hardened() -> None:
    shown = analyze("security", "--offline=true", str(files.UNIT)).stdout
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", shown)
    assert match is not None
    assert float(match[1]) <= MAX_EXPOSURE
