"""The HTML of every page, as html-validate finds it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from http_api.docs.frame import PAGES
from tests.generators.tools import NODE_MODULES
from tests.support.running_service import Addresses

HTML_VALIDATE = NODE_MODULES / ".bin" / "html-validate"
RULES = {
    "root": True,
    "extends": ["html-validate:recommended", "html-validate:document", "html-validate:a11y"],
    # Scripts and styles come from where the page is from, and change with it.
    "rules": {"require-sri": "off"},
}


@pytest.mark.parametrize("path", [*(page.path for page in PAGES), "/nothing"])
def test_html_validate_finds_no_error(server: Addresses, tmp_path: Path, path: str) -> None:
    if not HTML_VALIDATE.exists():
        pytest.skip(f"no {HTML_VALIDATE.name} here: .ci/run installs it")
    (tmp_path / ".htmlvalidate.json").write_text(json.dumps(RULES))
    done = subprocess.run(
        [HTML_VALIDATE, "--formatter", "text", "--stdin"],
        input=httpx.get(f"{server.http}{path}", headers={"Accept": "text/html"}).text,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
