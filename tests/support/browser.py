"""Debian's Chromium over the portal's pages, and a record of all that it does for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM: Final = Path("/usr/bin/chromium")
ARGUMENTS: Final = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DEVICES: Final[dict[str, dict[str, Any]]] = {
    "desktop": {"viewport": {"width": 1440, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser; the test is skipped where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM} here: apt install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS])
        try:
            yield browser
        finally:
            await browser.close()


class Tab:
    """A page of a browser that is on one device, with what it asked for and complained about."""

    def __init__(self, page: Page, base_url: str) -> None:
        self.page = page
        self.base_url = base_url
        self.requested: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type != "log" else None,
        )

    async def open(self, path: str) -> Page:
        """Go there, and return the page once it has all it asks for."""
        await self.page.goto(f"{self.base_url}{path}", wait_until="networkidle")
        return self.page


@contextlib.asynccontextmanager
async def tab(
    browser: Browser, base_url: str, device: str = "desktop", **options: Any
) -> AsyncIterator[Tab]:
    """A tab of a reader without a past. Nothing but ``base_url`` is asked, nothing goes wrong."""
    context = await browser.new_context(**DEVICES[device], **options)
    try:
        opened = Tab(await context.new_page(), base_url)
        yield opened
        assert [url for url in opened.requested if not url.startswith((base_url, "data:"))] == []
        assert opened.complaints == []
    finally:
        await context.close()
