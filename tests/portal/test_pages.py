"""The portal in a real browser: what its script does, and what works without one."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, Page, expect

from tests.portal.conftest import Demo
from tests.support.browser import tab
from tests.support.tenant import event

pytestmark = pytest.mark.anyio

OVERVIEW = "/developers"
EVENT = "section:has(#event) "  # the quick start's examples of an event


async def shown_language(page: Page, section: str = EVENT) -> str:
    """The label of the open tab, whose panel is the only one to be seen."""
    panels = page.locator(f"{section}.panel")
    seen = [await panel.is_visible() for panel in await panels.all()]
    assert seen.count(True) == 1
    return await page.locator(f"{section}.examples > label").nth(seen.index(True)).inner_text()


async def test_a_language_is_chosen_for_all_examples_and_kept(browser: Browser, demo: Demo) -> None:
    async with tab(browser, demo.addresses.http) as opened:
        page = await opened.open(OVERVIEW)
        assert await shown_language(page) == "curl"
        await page.locator(f"{EVENT}label", has_text="Go").click()
        for section in (EVENT, "section:has(#ping) "):
            assert await shown_language(page, section) == "Go"
        await page.reload()
        assert await shown_language(page) == "Go"
        await page.keyboard.press("Tab")
        await page.locator(f"{EVENT}input:checked").press("ArrowLeft")
        assert await shown_language(page) == "TypeScript"


async def test_copying_takes_what_is_seen(browser: Browser, demo: Demo) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    async with tab(browser, demo.addresses.http, permissions=permissions) as opened:
        page = await opened.open(OVERVIEW)
        copied = ""
        for section in (EVENT, "section:has(#key) "):
            button = page.locator(f"{section}.copy:visible")
            await button.click()
            await expect(button).to_have_text("Copied")
            copied = await page.evaluate("navigator.clipboard.readText()")
            assert copied == await page.locator(f"{section}pre:visible").text_content()
        assert copied == f"export WEPEOPLE_API_KEY={demo.tenant.key}"


async def test_copying_works_where_browsers_have_no_clipboard(browser: Browser, demo: Demo) -> None:
    # As over plain HTTP from another machine.
    async with tab(browser, demo.addresses.http, permissions=["clipboard-read"]) as opened:
        clipboard = "Object.defineProperty(navigator, 'clipboard', {value: undefined})"
        await opened.page.add_init_script(f"window.real = navigator.clipboard; {clipboard}")
        page = await opened.open(OVERVIEW)
        await page.locator("section:has(#key) .copy").click()
        await expect(page.locator("section:has(#key) .copy")).to_have_text("Copied")
        copied = await page.evaluate("window.real.readText()")
        assert copied == f"export WEPEOPLE_API_KEY={demo.tenant.key}"


async def test_search_finds_sections_by_keyboard_alone(browser: Browser, demo: Demo) -> None:
    async with tab(browser, demo.addresses.http) as opened:
        page = await opened.open(OVERVIEW)
        await page.keyboard.press("/")
        await page.keyboard.type("rate limits")
        first = page.locator(".results a").first
        await expect(first).to_contain_text("Rate limits")
        await page.keyboard.press("ArrowDown")
        await expect(first).to_be_focused()
        await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Enter")
        await page.wait_for_url(re.compile(r"/developers/(docs|reference)#rate"))
        await page.keyboard.press("Control+k")
        await page.keyboard.type("no such words")
        await expect(page.locator(".found")).to_have_text("Nothing found")
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_be_hidden()


async def test_the_explorer_sends_a_real_request(browser: Browser, demo: Demo) -> None:
    async with tab(browser, demo.addresses.http) as opened:
        page = await opened.open("/developers/explorer")
        await page.get_by_role("button", name="Authorize").click()
        await page.locator(".auth-container input").fill(demo.tenant.key)
        await page.locator(".auth-btn-wrapper .authorize").click()
        await page.locator(".btn-done").click()
        await page.locator("#operations-Ingest-ping .opblock-summary-control").click()
        await page.locator("#operations-Ingest-ping .execute").click()
        answer = page.locator("#operations-Ingest-ping .live-responses-table")
        await expect(answer).to_contain_text(f'"{demo.tenant.app.slug}"')
        await expect(answer.locator(".response-col_status").last).to_have_text("200")


async def test_the_explorer_sends_to_where_the_page_is_from(browser: Browser, demo: Demo) -> None:
    elsewhere = demo.addresses.http.replace("127.0.0.1", "localhost")
    async with tab(browser, elsewhere) as opened:
        page = await opened.open("/developers/explorer")
        await page.locator("#operations-Ingest-ping .opblock-summary-control").click()
        await page.locator("#operations-Ingest-ping .execute").click()
        answer = page.locator("#operations-Ingest-ping .live-responses-table")
        await expect(answer).to_contain_text("missing_authorization")
        assert opened.complaints.pop().startswith("Failed to load resource")  # the 401


@pytest.mark.parametrize("with_script", [True, False])
async def test_a_phone_has_the_contents_in_a_drawer(
    browser: Browser, demo: Demo, with_script: bool
) -> None:
    url = demo.addresses.http
    async with tab(browser, url, "phone", java_script_enabled=with_script) as opened:
        page = await opened.open("/developers/reference")
        contents = page.get_by_role("navigation", name="Contents")
        await expect(contents).to_be_hidden()
        await page.locator("label.menu").click()
        await expect(contents).to_be_visible()
        await contents.get_by_role("link", name="Limits", exact=True).click()
        await expect(page.locator("#limits")).to_be_in_viewport()  # under the drawer, or not
        if not with_script:
            await page.locator("label.menu").click()
        await expect(contents).to_be_hidden()
        await expect(page.locator("#limits")).to_be_in_viewport()
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= await page.evaluate("visualViewport.width")  # innerWidth grows with it


@pytest.mark.parametrize("system", ["light", "dark"])
async def test_the_theme_is_the_systems_until_a_reader_chooses(
    browser: Browser, demo: Demo, system: str
) -> None:
    async with tab(browser, demo.addresses.http, color_scheme=system) as opened:
        page = await opened.open(OVERVIEW)
        shown = "getComputedStyle(document.body).backgroundColor"
        before = await page.evaluate(shown)
        assert (before == "rgb(255, 255, 255)") is (system == "light")
        await page.get_by_role("button", name="theme").click()
        chosen = await page.evaluate(shown)
        assert chosen != before
        await page.goto(f"{demo.addresses.http}/developers/docs")
        assert await page.evaluate(shown) == chosen


async def test_pages_work_without_a_script(browser: Browser, demo: Demo) -> None:
    async with tab(browser, demo.addresses.http, java_script_enabled=False) as opened:
        page = await opened.open(OVERVIEW)
        await page.locator(f"{EVENT}label", has_text="Python").click()
        assert await shown_language(page) == "Python"
        await expect(page.get_by_role("button")).to_have_count(0)
        await page.get_by_role("link", name="Reference", exact=True).first.click()
        await page.get_by_role("link", name="rate_limited").first.click()
        await expect(page.locator("#rate_limited")).to_be_in_viewport()
        await opened.open("/developers/explorer")
        await expect(page.get_by_text("The explorer needs a script")).to_be_visible()


async def test_paper_has_every_example_and_no_navigation(browser: Browser, demo: Demo) -> None:
    async with tab(browser, demo.addresses.http) as opened:
        page = await opened.open(OVERVIEW)
        await page.emulate_media(media="print")
        for panel in await page.locator(f"{EVENT}.panel").all():
            await expect(panel).to_be_visible()
        await expect(page.get_by_role("navigation")).to_have_count(0)


async def test_a_key_in_a_page_works(demo: Demo, browser: Browser) -> None:
    async with tab(browser, demo.addresses.http) as opened:
        page = await opened.open(OVERVIEW)
        sent = await page.evaluate(
            """async ([key, event]) => {
                const answer = await fetch("/api/v1/ingest/events", {
                    method: "POST",
                    headers: {Authorization: `Bearer ${key}`, "Content-Type": "application/json"},
                    body: JSON.stringify({events: [event]}),
                });
                return answer.status;
            }""",
            [demo.tenant.key, event()],
        )
        assert sent == 202
