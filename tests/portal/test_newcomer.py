"""A newcomer's first two minutes by the README: the demo's link, an event, a refusal, a revoked
key."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import tab
from tests.support.service_process import (
    PROGRAM,
    PROJECT,
    EmbeddedServiceProcess,
    without_settings,
)
from tests.support.tenant import event
from tests.support.waiting import IN_FORCE_SECONDS, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def served(tmp_path: Path) -> Iterator[EmbeddedServiceProcess]:
    """What `make run` starts: the demo, on an embedded database of its own."""
    service = EmbeddedServiceProcess(tmp_path)
    service.start(demo=True)
    try:
        yield service
    finally:
        service.terminate()


def send(service: EmbeddedServiceProcess, **members: Any) -> httpx.Response:
    """Send one event with the key that was printed."""
    return httpx.post(
        f"{service.url}/api/v1/ingest/events",
        headers={"Authorization": f"Bearer {service.demo_key}"},
        json={"events": [event(**members)]},
    )


def rejections(service: EmbeddedServiceProcess, request_id: str) -> list[dict[str, Any]]:
    """What the command line tells of a refused request."""
    told = subprocess.run(
        [*PROGRAM, "rejections", "Demo", "--request", request_id, "--json"],
        env={
            **without_settings(os.environ),
            "WEPEOPLE_DATA_DIR": os.fspath(service.data_dir),
            "PYTHONPATH": os.pathsep.join((os.fspath(PROJECT), os.fspath(PROJECT / "client"))),
        },
        cwd=service.data_dir.parent,
        capture_output=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(told.stdout)
    return found


async def test_from_the_printed_link_to_an_event_a_refusal_and_the_end_of_the_key(
    browser: Browser, served: EmbeddedServiceProcess
) -> None:
    assert served.console is not None
    async with tab(browser, served.url) as opened:
        page = opened.page
        await page.goto(served.console)
        await page.wait_for_url("**/console/organizations/org_*")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Demo")
        await expect(page.locator(".live")).to_have_text("Live")
        timeline = urlsplit(page.url).path

        assert send(served).status_code == 202
        rows = page.locator(".events li")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("ticket.resolved")
        assert urlsplit(page.url).path == timeline

        refused = send(served, eventType="ticket.lost")
        request_id = refused.json()["error"]["requestId"]

        async def is_told() -> bool:
            await page.get_by_label("Find a request by its id").fill(request_id)
            await page.keyboard.press("Enter")
            await page.wait_for_url(f"**/rejections?*{request_id}*")
            return await rows.count() == 1

        await eventually(is_told, "the rejection is there")
        await expect(rows).to_contain_text("forbidden_event_type")
        (told,) = rejections(served, request_id)
        assert told["code"] == "forbidden_event_type"
        await expect(rows.locator("p.message")).to_have_text(told["message"])

        await page.get_by_role("link", name="Developer").click()
        await page.get_by_role("button", name="Revoke").click()
        await page.get_by_role("button", name="Revoke key").click()
        await expect(page.get_by_role("status")).to_contain_text("The key was revoked")
        await eventually(
            lambda: send(served).json().get("error", {}).get("code") == "key_revoked",
            "refused",
            seconds=IN_FORCE_SECONDS,
        )


async def test_the_printed_link_signs_in_once(
    browser: Browser, served: EmbeddedServiceProcess
) -> None:
    assert served.console is not None
    async with httpx.AsyncClient(base_url=served.url) as other:
        secret = httpx.URL(served.console).params["link"]
        await other.get(served.console)  # who only looks does not use it up
        async with tab(browser, served.url) as opened:
            await opened.page.goto(served.console)
            await opened.page.wait_for_url("**/console/organizations/org_*")
        answer = await other.post("/console/sign-in", data={"link": secret})
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
