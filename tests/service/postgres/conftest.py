"""Data folders of an embedded PostgreSQL."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.postgres.lease_holder import acquire, end


@pytest.fixture
def new_dir() -> Iterator[Path]:
    """A data folder to be, with a path short enough for sockets, below a folder of mode 0700."""
    base = Path(tempfile.mkdtemp(prefix="wp-", dir="/tmp"))
    yield base / "data"
    end(base / "data")
    shutil.rmtree(base)


@pytest.fixture(scope="session")
def created_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wp-", dir="/tmp") as base:
        acquire(Path(base, "data")).close()
        end(Path(base, "data"))
        yield Path(base, "data")


@pytest.fixture
def data_dir(new_dir: Path, created_folder: Path) -> Path:
    """The same with a database in it, which is not in use."""
    subprocess.run(["/bin/cp", "-a", created_folder, new_dir], check=True)
    return new_dir
