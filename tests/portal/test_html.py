"""The HTML of every page, as html-validate finds it."""

from __future__ import annotations

from pathlib import Path

import httpx

from http_api.docs.frame import PAGES
from tests.portal.validation import html_errors
from tests.support.running_service import Addresses

PATHS = [*(page.path for page in PAGES), "/nothing"]


def test_html_validate_finds_no_error(server: Addresses, tmp_path: Path) -> None:
    headers = {"Accept": "text/html"}
    texts = {path: httpx.get(f"{server.http}{path}", headers=headers).text for path in PATHS}
    assert html_errors(texts, tmp_path) == ""
