"""The Containerfile: what it does, done without an engine, makes an environment that serves."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.deploy import files
from tests.support.service_process import ServiceProcess

SOURCE: Final = "/src"
ENVIRONMENT: Final = "/opt/wepeople-ingest"
INSTALL_SECONDS: Final = 300.0

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 120)


def copied(rest: str, source: Path) -> None:
    """Do what COPY does, with what git has of the project and .dockerignore does not leave out."""
    wanted, target = rest.split()
    assert target == "./" if wanted != "." else target == "."
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", wanted]
    names = subprocess.run(listing, cwd=files.PROJECT, capture_output=True, check=True).stdout
    left_out = (files.PROJECT / ".dockerignore").read_text().splitlines()
    for name in names.decode().split("\0"):
        if name and name.split("/")[0] not in left_out and (files.PROJECT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(files.PROJECT / name, source / name)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's virtual environment, in another place: each step of the first stage is done."""
    folder = tmp_path_factory.mktemp("image")
    source, environment = folder / "src", folder / "environment"
    source.mkdir()
    path = f"{sys.base_prefix}/bin:/usr/bin:/bin"  # python3 is the one that the tests run on
    steps = files.instructions()
    stages = [index for index, (word, _) in enumerate(steps) if word == "FROM"]
    assert len(stages) == 2
    for word, rest in steps[: stages[1]]:
        if word == "COPY":
            copied(rest, source)
        elif word == "RUN":
            command = re.sub(r"^--mount=\S+ ", "", rest).replace(ENVIRONMENT, str(environment))
            subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=source,
                env={"PATH": path, "HOME": os.environ["HOME"]},
                check=True,
                timeout=INSTALL_SECONDS,
            )
    yield environment
    shutil.rmtree(folder)


class Container(ServiceProcess):
    """The service as the image starts it, but for the addresses."""

    def __init__(self, folder: Path, environment: Path, database_url: str) -> None:
        super().__init__(folder, DATABASE_URL=database_url)
        self._environment |= files.image_settings()
        arguments = self._command[self._command.index("serve") :]
        self._command = [str(environment / "bin/wepeople-ingest"), *arguments]
        self._environment["PATH"] = f"{environment}/bin:/usr/bin:/bin"
        for name in ("PYTHONPATH", "VIRTUAL_ENV"):
            self._environment.pop(name, None)


def health_check(url: str) -> list[str]:
    """The image's, of a service that listens elsewhere."""
    (check,) = (rest for word, rest in files.instructions() if word == "HEALTHCHECK")
    command: list[str] = [part.strip(",") for part in shlex.split(check.partition("CMD [")[2][:-1])]
    return [part.replace("http://127.0.0.1:8080", url) for part in command]


def written(environment: Path) -> dict[str, int]:
    """When each file was written."""
    return {str(path): path.stat().st_mtime_ns for path in environment.rglob("*") if path.is_file()}


def test_its_environment_serves_from_what_it_only_reads(
    environment: Path, database_url: str, tmp_path: Path
) -> None:
    before = written(environment)
    assert not any("pgserver" in name or "/pip/" in name for name in before)
    assert any("opentelemetry/exporter/otlp/proto/http/" in name for name in before)
    container = Container(tmp_path, environment, database_url)
    try:
        container.start()
        program, *arguments = health_check(container.url)
        healthy = [str(environment / "bin" / program), *arguments]
        assert subprocess.run(healthy, check=False).returncode == 0
        assert container.terminate() == 0
        assert subprocess.run(healthy, stderr=subprocess.DEVNULL, check=False).returncode != 0
    finally:
        container.kill()
    assert written(environment) == before


def test_the_second_stage_runs_it_as_nobody_with_the_same_python() -> None:
    steps = files.instructions()
    froms = [rest.split()[0] for word, rest in steps if word == "FROM"]
    assert len(set(froms)) == 1, "the environment's python3 is that of its image"
    final = dict(steps[max(i for i, (word, _) in enumerate(steps) if word == "FROM") :])
    assert final["USER"].split(":")[0] not in ("0", "root")
    assert final["COPY"] == f"--from=build {ENVIRONMENT} {ENVIRONMENT}"
    assert final["ENTRYPOINT"] == '["wepeople-ingest"]'
    assert final["WORKDIR"] == "/tmp"  # noqa: S108 - all that it may write
