"""compose.yaml: valid, and every file that it mounts is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from tests.deploy import files


def check(path: Path) -> int:
    command = [sys.executable, "-m", "check_jsonschema"]
    schema = ["--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run([*command, *schema], capture_output=True, check=False).returncode


def test_it_is_valid_by_the_schema_of_compose(tmp_path: Path) -> None:
    assert check(files.COMPOSE) == 0
    spoiled = tmp_path / "compose.yaml"
    spoiled.write_text(files.COMPOSE.read_text().replace("read_only:", "readonly:"))
    assert check(spoiled) != 0


def test_every_folder_that_it_mounts_or_builds_is_there() -> None:
    services = files.compose()
    mounts = [mount for one in services.values() for mount in one.get("volumes", ())]
    named = yaml.safe_load(files.COMPOSE.read_text())["volumes"]
    for mount in mounts:
        source, target = mount.split(":")[:2]
        if source in named:
            continue
        assert (files.DEPLOY / source).exists(), source
        assert target.startswith("/")
    build = services["ingest"]["build"]
    assert (files.DEPLOY / build["context"] / build["dockerfile"]) == files.DEPLOY / ".." / (
        "deploy/Containerfile"
    )
    provider = yaml.safe_load(
        (files.DEPLOY / "grafana/provisioning/dashboards/wepeople-ingest.yaml").read_text()
    )["providers"][0]["options"]["path"]
    assert f"./grafana/dashboards:{provider}:ro" in services["grafana"]["volumes"]


def test_nothing_is_reached_from_other_machines_unless_somebody_wants_it() -> None:
    for one in files.compose().values():
        for port in one.get("ports", ()):
            assert port.startswith("127.0.0.1:")
