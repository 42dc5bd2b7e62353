"""The linters of OpenAPI documents that people have find nothing to say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import pytest

from core.admin.administration import Administration
from http_api.attempts import Attempts
from http_api.docs.openapi import render, render_json
from http_api.manage.app import create_manage_app
from tests.generators.tools import GENERATE_SECONDS, NODE_MODULES, missing, run

PUBLIC_URL = "https://ingest.wepeople.app"
REDOCLY, SPECTRAL = (NODE_MODULES / ".bin" / name for name in ("redocly", "spectral"))
# Which licence the document is under is for its owner to say.
ALLOWED = {"info-license"}


def manage() -> bytes:
    """The document of the management API."""
    app = create_manage_app(cast("Administration", None), PUBLIC_URL, cast("Attempts", None))
    return json.dumps(app.openapi()).encode()


DOCUMENTS: Final[dict[str, Callable[[], bytes]]] = {
    "openapi.json": lambda: render_json(PUBLIC_URL),
    "openapi.yaml": lambda: render(PUBLIC_URL),
    "manage.json": manage,
}


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Each document as it is served at a public URL."""
    name: str = request.param
    file = tmp_path / name
    file.write_bytes(DOCUMENTS[name]())
    return file


def skip_without(linter: Path) -> None:
    """Skip if the linter is not here."""
    if absent := missing(["node", linter]):
        pytest.skip(f"NOT LINTED BY {linter.name.upper()}: {', '.join(absent)} not installed")


@pytest.mark.timeout(2 * GENERATE_SECONDS)
def test_redocly_finds_nothing(document: Path) -> None:
    skip_without(REDOCLY)
    offline = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    said = run(document.parent, REDOCLY, "lint", "--format=json", document.name, **offline)
    problems = json.loads(said)["problems"]
    found = {problem["ruleId"]: problem["message"] for problem in problems}
    assert found.keys() <= ALLOWED, found


@pytest.mark.timeout(2 * GENERATE_SECONDS)
def test_spectral_finds_nothing(document: Path) -> None:
    skip_without(SPECTRAL)
    rules = document.parent / "spectral.yaml"
    rules.write_text('extends: ["spectral:oas"]\n')
    options = ("--format", "json", "--fail-severity", "hint", "--quiet")
    said = run(document.parent, SPECTRAL, "lint", *options, "-r", rules.name, document.name)
    assert json.loads(said or "[]") == []
