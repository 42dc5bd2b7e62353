"""Every page of the console on every device in both themes, as axe and html-validate find it."""

from __future__ import annotations

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page

from http_api.paths import SIGN_IN_PATH
from tests.portal.console import FilledConsole, SignedIn, signed_in
from tests.portal.validation import html_errors
from tests.support.browser import DEVICES
from tests.support.console_driver import HTML, ConsoleDriver

pytestmark = pytest.mark.anyio


async def violations(page: Page) -> list[object]:
    """All that axe finds, in short."""
    found = await Axe().run(page)
    return [
        (one["id"], [(node["target"], node["failureSummary"]) for node in one["nodes"][:5]])
        for one in found.response["violations"]
    ]


async def open_all(page: Page) -> None:
    """Open whatever can be opened on a page."""
    await page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


@pytest.mark.timeout(400)  # axe looks at each page for a second or two, and at some 20 of them
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
async def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    browser: Browser, filled: FilledConsole, device: str, theme: str
) -> None:
    found: dict[str, object] = {}
    async with signed_in(browser, filled, device, color_scheme=theme) as opened:
        for name, path in (await filled.pages() | {"sign-in": SIGN_IN_PATH}).items():
            await opened.go(path)
            await open_all(opened.page)
            found[name] = await violations(opened.page)
            wide = await opened.page.evaluate(
                "document.documentElement.scrollWidth - visualViewport.width"
            )
            assert wide <= 0, name
        await opened.go(filled.path("/developer"))
        await opened.page.get_by_role("button", name="Revoke").first.click()
        found["dialog"] = await violations(opened.page)
        _forget_refusals(opened)
    assert {name: one for name, one in found.items() if one} == {}


def _forget_refusals(opened: SignedIn) -> None:
    """Forget that the browser complained about pages of errors, which were meant."""
    opened.opened.complaints[:] = [
        one for one in opened.opened.complaints if not one.startswith("Failed to load resource")
    ]


@pytest.mark.timeout(400)
async def test_html_validate_finds_no_error(
    filled: FilledConsole, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with ConsoleDriver(filled.addresses.http) as driver:
        strangers = await driver.client.get(SIGN_IN_PATH, headers=HTML)
        await driver.client.post(SIGN_IN_PATH, data={"token": filled.token})
        texts = {"sign-in": strangers.text}
        for name, path in (await filled.pages()).items():
            texts[name] = (await driver.client.get(path)).text
    assert html_errors(texts, tmp_path_factory.mktemp("pages")) == ""
