"""The client's wheel: pip installs it from the running service."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import msgspec
import pytest

from http_api.docs import python_client
from http_api.docs.python_client import DISTRIBUTION, INDEX_PATH, PythonClient, installed_client
from tests.support.running_service import Addresses

PROJECT = Path(__file__).parents[3]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
IN_THE_WHEEL = ("__init__.py", "py.typed", "stream/producer.py", "pb/ingest_pb2.pyi")

pytestmark = pytest.mark.anyio


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """The interpreter of an environment that has what the client needs, and not the client."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", folder=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    needed = Path(run(python, "-c", code, folder=tmp_path)) / "needed.pth"
    # A folder that a .pth file names is searched, but the .pth files in it are not read.
    needed.write_text(str(Path(msgspec.__file__).parents[1]))
    return python


@pytest.mark.parametrize("how", ["URL", "index"])
async def test_pip_installs_the_client_from_the_service(
    server: Addresses, empty: Path, tmp_path: Path, how: str
) -> None:
    client = installed_client()
    assert client is not None
    page = f"{server.http}{INDEX_PATH}/"
    wanted = {
        "URL": [f"{server.http}{client.wheel_path}"],
        "index": ["--no-index", "--ignore-installed", "--find-links", page, DISTRIBUTION],
    }
    install = (*PIP, "--python", empty, "install", "--no-deps", "--no-cache-dir")
    run(*install, *wanted[how], folder=tmp_path)
    code = "import wepeople_ingest_client as c; print(c.__file__, c.StreamProducer.__name__)"
    place, name = run(empty, "-c", code, folder=tmp_path).split()
    assert (Path(place).is_relative_to(tmp_path), name) == (True, "StreamProducer")
    run(*PIP, "--python", empty, "uninstall", "--yes", DISTRIBUTION, folder=tmp_path)
    assert not Path(place).parent.exists()


def test_the_wheel_has_what_setuptools_would_put_into_it(tmp_path: Path) -> None:
    shutil.copytree(
        PROJECT / "client",
        tmp_path / "client",
        ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"),
    )
    wheel = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path)
    run(*PIP, *wheel, tmp_path / "client", folder=tmp_path)
    [built] = tmp_path.glob("*.whl")
    client = installed_client()
    assert client is not None
    served = tmp_path / "served.whl"
    served.write_bytes(client.wheel())
    assert client.wheel_path == f"{INDEX_PATH}/{built.name}"
    with zipfile.ZipFile(built) as one, zipfile.ZipFile(served) as other:
        assert other.testzip() is None
        names = {name for name in one.namelist() if ".dist-info/" not in name}
        assert names == {name for name in other.namelist() if ".dist-info/" not in name}
        assert {f"{python_client.PACKAGE}/{name}" for name in IN_THE_WHEEL} <= names
        for name in names:
            assert one.read(name) == other.read(name), name


def test_the_wheel_has_nothing_else_that_lies_in_the_folder(tmp_path: Path) -> None:
    package = tmp_path / python_client.PACKAGE
    for name in ("__init__.py", "py.typed", ".env", "notes.txt", "__pycache__/a.cpython-311.pyc"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    client = PythonClient("1.0", "Name: x\n", package)
    with zipfile.ZipFile(io.BytesIO(client.wheel())) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {f"{python_client.PACKAGE}/{name}" for name in ("__init__.py", "py.typed")}


async def test_the_wheel_is_the_same_each_time(server: Addresses) -> None:
    client = installed_client()
    assert client is not None
    async with httpx.AsyncClient(base_url=server.http) as http:
        page = (await http.get(INDEX_PATH)).text
        wheel = await http.get(client.wheel_path)
    assert wheel.content == client.wheel()
    assert f'href="{client.wheel_path}#sha256=' in page


async def test_a_service_without_the_client_has_nothing_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(python_client, "DISTRIBUTION", "wepeople-ingest-absent")
    assert installed_client() is None
