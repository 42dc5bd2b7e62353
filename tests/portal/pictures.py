"""``python -m tests.portal.pictures``: the pictures of the console in docs/images."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, Page

from core.postgres.migrate import migrate
from service.postgres.embedded import EmbeddedPostgres
from tests.portal.console import FilledConsole, filled_console, signed_in
from tests.support.browser import chromium
from tests.support.databases import new_database

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
DATABASE: Final = "wepeople_pictures"


async def _take(browser: Browser, filled: FilledConsole) -> None:
    async def picture(page: Page, name: str) -> None:
        await page.wait_for_load_state("load")
        await page.mouse.move(0, 0)
        await page.screenshot(path=IMAGES / f"console-{name}.png", animations="disabled")

    for device, theme, suffix in (("desktop", "light", ""), ("phone", "dark", "-phone-dark")):
        async with signed_in(browser, filled, device, color_scheme=theme) as opened:
            page = opened.page
            for name in ("timeline", "developer", "usage", "rejections"):
                await opened.go(filled.path("" if name == "timeline" else f"/{name}"))
                if name == "timeline":
                    await page.locator(".live[data-state=on]").wait_for()
                if name in ("timeline", "rejections"):
                    await page.locator(".events li:has(.data) summary").nth(1).click()
                await picture(page, f"{name}{suffix}")
            await opened.go(filled.path("/workers"))
            await page.get_by_role("link", name="Ada Lovelace").click()
            await page.locator(".spark").first.wait_for()
            await picture(page, f"worker{suffix}")


async def _main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres(Path(folder) / "postgres").acquire() as lease,
        new_database(lease.conninfo, DATABASE) as url,
    ):
        await migrate(url)
        async with filled_console(url) as filled, chromium() as browser:
            await _take(browser, filled)


if __name__ == "__main__":
    asyncio.run(_main())
