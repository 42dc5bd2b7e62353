"""Every page on every device in both themes, as axe finds it."""

from __future__ import annotations

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser

from http_api.docs.frame import PAGES
from tests.portal.conftest import Demo
from tests.support.browser import DEVICES, tab

pytestmark = pytest.mark.anyio

PATHS = [page.path for page in PAGES]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
async def test_axe_finds_nothing(
    browser: Browser, demo: Demo, path: str, device: str, theme: str
) -> None:
    async with tab(browser, demo.addresses.http, device, color_scheme=theme) as opened:
        page = await opened.open(path)
        if path == "/developers/explorer":
            await page.locator("#operations-Ingest-ingestEvents .opblock-summary-control").click()
            await page.wait_for_selector("#operations-Ingest-ingestEvents .execute")
        found = await Axe().run(page)
        if path == "/nothing":
            assert opened.complaints.pop().startswith("Failed to load resource")  # the 404
    assert [
        (one["id"], [(node["target"], node["failureSummary"]) for node in one["nodes"][:5]])
        for one in found.response["violations"]
    ] == []
