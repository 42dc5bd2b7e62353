"""html-validate over the text of pages."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.generators.tools import NODE_MODULES

HTML_VALIDATE: Final = NODE_MODULES / ".bin" / "html-validate"
RULES: Final = {
    "root": True,
    "extends": ["html-validate:recommended", "html-validate:document", "html-validate:a11y"],
    # Scripts and styles come from where the page is from, and change with it.
    "rules": {"require-sri": "off"},
}


def html_errors(pages: Mapping[str, str], folder: Path) -> str:
    """Return what is wrong with the pages, empty if nothing is; skips where there is no tool."""
    if not HTML_VALIDATE.exists():
        pytest.skip(f"no {HTML_VALIDATE.name} here: .ci/run installs it")
    (folder / ".htmlvalidate.json").write_text(json.dumps(RULES))
    found = {name: _errors(text, folder) for name, text in pages.items()}
    return "\n".join(f"{name}: {errors}" for name, errors in found.items() if errors)


def _errors(text: str, folder: Path) -> str:
    done = subprocess.run(
        [HTML_VALIDATE, "--formatter", "text", "--stdin"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr or "failed"
