"""The console in a real browser: an operator's way through all of it."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.portal.console import FilledConsole, signed_in
from tests.support.tenant import event
from tests.support.waiting import IN_FORCE_SECONDS, eventually

pytestmark = pytest.mark.anyio

_KEY = re.compile(r"wp_live_[0-9a-f]{32}")


def send(filled: FilledConsole, key: str, **members: Any) -> httpx.Response:
    """Send one event."""
    return httpx.post(
        f"{filled.addresses.http}/api/v1/ingest/events",
        headers={"Authorization": f"Bearer {key}"},
        json={"events": [event(**members)]},
    )


async def test_from_the_link_to_a_key_an_event_and_the_end_of_the_key(
    browser: Browser, filled: FilledConsole
) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    async with signed_in(browser, filled, permissions=permissions) as opened:
        page = opened.page
        await page.get_by_text("New organization").click()
        await page.get_by_label("Name").fill("Fabrikam <b>")
        await page.get_by_role("button", name="Make organization").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Fabrikam <b>")
        await page.get_by_label("Name").fill("CRM Hub")
        await page.get_by_label("Slug").fill("crm-hub")
        await page.get_by_label("Event types").fill("deal.won")
        await page.get_by_role("button", name="Make app").click()
        await expect(page.get_by_role("status")).to_contain_text("The app was made")
        await page.get_by_text("New key").click()
        await page.get_by_role("button", name="Make key").click()
        await page.locator(".new-key .copy").click()
        key = await page.evaluate("navigator.clipboard.readText()")
        assert _KEY.fullmatch(key)

        await page.get_by_role("link", name="Timeline").click()
        await expect(page.get_by_role("heading", name="No events yet")).to_be_visible()
        await expect(page.locator(".live")).to_have_text("Live")
        address = page.url
        assert send(filled, key, eventType="deal.won", metadata={"deal": "D-1"}).is_success
        row = page.locator(".events li")
        await expect(row).to_have_count(1, timeout=2_000)
        await expect(page.get_by_role("heading", name="No events yet")).to_have_count(0)
        assert page.url == address
        await row.locator("summary").focus()
        await page.keyboard.press("Enter")
        await expect(row.locator(".data")).to_contain_text('"deal": "D-1"')

        await page.get_by_role("link", name="Developer").click()
        await page.get_by_role("button", name="Revoke").click()
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await page.get_by_role("button", name="Revoke").click()
        await page.get_by_role("button", name="Revoke key").click()
        await expect(page.get_by_role("status")).to_contain_text("The key was revoked")
        await eventually(
            lambda: send(filled, key).status_code == 401, "refused", seconds=IN_FORCE_SECONDS
        )
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Operator token")).to_be_visible()


async def test_a_pasted_request_id_leads_to_the_reason(
    browser: Browser, filled: FilledConsole
) -> None:
    refused = send(filled, filled.tenant.key, eventType="ticket.lost")
    request_id = refused.json()["error"]["requestId"]
    async with signed_in(browser, filled) as opened:
        page = opened.page

        async def is_found() -> bool:
            await opened.go(filled.path())
            await page.get_by_label("Find a request by its id").fill(f" {request_id} ")
            await page.keyboard.press("Enter")
            await page.wait_for_url("**/rejections?*")
            return await page.locator(".events li").count() == 1

        await eventually(is_found, "the rejection is there")
        found = page.locator(".events li")
        await expect(found).to_contain_text("ticket.lost")
        await expect(found).to_contain_text(request_id)
        await expect(found).to_contain_text("curl")
        await found.get_by_role("link", name="The reference on forbidden_event_type").click()
        await expect(page.locator("#forbidden_event_type")).to_be_in_viewport()


async def test_a_worker_has_plots_of_every_number(browser: Browser, filled: FilledConsole) -> None:
    async with signed_in(browser, filled) as opened:
        page = opened.page
        await opened.go(filled.path("/workers?search=ada"))
        await page.get_by_role("link", name="Ada Lovelace").click()
        await expect(
            page.get_by_role("img", name=re.compile("^Open tickets, the last"))
        ).to_be_visible()
        await expect(page.locator(".spark")).to_have_count(2)  # and none of the text
        await expect(page.locator(".card")).to_contain_text("normal")


async def test_the_timeline_is_live_only_while_somebody_looks(
    browser: Browser, filled: FilledConsole
) -> None:
    async with signed_in(browser, filled) as opened:
        page = opened.page
        await opened.go(filled.path("?type=deal.won"))
        await expect(page.locator(".live")).to_have_text("Live")
        before = await page.locator(".events li").count()
        hidden = "Object.defineProperty(document, 'hidden', {configurable: true, value: %s});"
        changed = "document.dispatchEvent(new Event('visibilitychange'))"
        await page.evaluate(hidden % "true" + changed)
        assert send(filled, filled.tenant.key, eventType="deal.won").is_success
        assert send(filled, filled.tenant.key, eventType="call.finished").is_success
        await page.evaluate(hidden % "false" + changed)
        await expect(page.locator(".events li")).to_have_count(before + 1, timeout=5_000)


async def test_pages_work_without_a_script(browser: Browser, filled: FilledConsole) -> None:
    async with signed_in(browser, filled, java_script_enabled=False) as opened:
        page = opened.page
        await opened.go(filled.path())
        await page.get_by_label("Type").fill("deal.won")
        await page.get_by_role("button", name="Filter").click()
        types = await page.locator(".events .type").all_inner_texts()
        assert set(types) == {"deal.won"}
        await expect(page.locator(".live")).to_have_text("Reload to see newer ones")
        await page.get_by_role("link", name="Developer").click()
        await page.get_by_role("button", name=re.compile("^Rotate")).first.click()
        await expect(page.get_by_role("dialog")).to_be_visible()
