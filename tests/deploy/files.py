"""The files of deploy/, and what they set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import yaml

PROJECT: Final = Path(__file__).parents[2]
DEPLOY: Final = PROJECT / "deploy"
CONTAINERFILE: Final = DEPLOY / "Containerfile"
COMPOSE: Final = DEPLOY / "compose.yaml"
UNIT: Final = DEPLOY / "systemd/wepeople-ingest.service"
RULES: Final = DEPLOY / "alerts/wepeople-ingest.rules.yaml"
PROMETHEUS: Final = DEPLOY / "prometheus/prometheus.yml"
DASHBOARD: Final = DEPLOY / "grafana/dashboards/wepeople-ingest.json"

# What a variable in compose.yaml stands for that an operator has to set.
_GIVEN: Final = re.compile(r"\$\{(\w+):[?-]([^}]*)\}")


def compose() -> dict[str, Any]:
    """Compose's services, each variable that an operator sets as 24 letters, or its default."""
    text = _GIVEN.sub(lambda match: match[2] if ":" in match[2] else "x" * 24, COMPOSE.read_text())
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


def manifests() -> list[dict[str, Any]]:
    """Every object of kubernetes/."""
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


def manifest(kind: str) -> dict[str, Any]:
    """The only object of a kind."""
    (one,) = (found for found in manifests() if found["kind"] == kind)
    return one


def alerts() -> list[dict[str, Any]]:
    """Every rule."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    content: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return content


def instructions() -> list[tuple[str, str]]:
    """The Containerfile's instructions in their order: a word, and what follows it."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = (line.partition(" ") for line in joined.splitlines() if line)
    return [(word, re.sub(r"\s+", " ", rest).strip()) for word, _, rest in found]


def image_settings() -> dict[str, str]:
    """The variables that the image sets."""
    pairs = (pair for word, rest in instructions() if word == "ENV" for pair in rest.split())
    return dict(pair.split("=", 1) for pair in pairs)


def unit() -> list[tuple[str, str]]:
    """The settings of the systemd unit, in their order."""
    lines = (line.partition("=") for line in UNIT.read_text().splitlines() if "=" in line)
    return [(name, value) for name, _, value in lines if not name.startswith("#")]
