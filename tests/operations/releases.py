"""Other releases of this project, as folders that PYTHONPATH names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.service_process import PROJECT

# Yesterday's release. No earlier one can be rolled back to: none starts on a newer database.
EARLIER_REVISION: Final = "201215d272a91d3889bf58ac5f0f72958b78d3e7"
PACKAGES: Final = ("core", "http_api", "grpc_api", "service", "client")
# A cluster of PostgreSQL 16, whose binaries the wheel has as well, cannot have this locale.
OF_POSTGRESQL_16: Final = {
    "service/postgres/home.py": {"MAJOR_VERSION = 18": "MAJOR_VERSION = 16"},
    "service/postgres/embedded.py": {'f"pginstall{MAJOR_VERSION}"': '"pginstall"'},
    "service/postgres/cluster.py": {
        '"--locale-provider=builtin", "--builtin-locale=C.UTF-8"': '"--locale-provider=libc"'
    },
}


def earlier_release(folder: Path) -> str:
    """Yesterday's release, for PYTHONPATH; the test is skipped where the history is cut off."""
    archive = ["git", "-C", str(PROJECT), "archive", EARLIER_REVISION, *PACKAGES]
    made = subprocess.run(archive, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no {EARLIER_REVISION[:7]} in this clone's history")
    folder.mkdir()
    subprocess.run(["/bin/tar", "-x", "-C", str(folder)], input=made.stdout, check=True)
    return f"{folder}:{folder / 'client'}"


def release_with_postgresql_16(folder: Path) -> str:
    """This release, but with an embedded PostgreSQL 16, for PYTHONPATH."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(PROJECT / package, folder / package, ignore=ignored)
    for name, replacements in OF_POSTGRESQL_16.items():
        text = (folder / name).read_text("utf-8")
        for old, new in replacements.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        (folder / name).write_text(text, "utf-8")
    return f"{folder}:{folder / 'client'}"
