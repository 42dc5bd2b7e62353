"""The timeline of the console: pages of events, filters, and events as they come."""

from __future__ import annotations

import asyncio
import contextlib
import re
from datetime import UTC, datetime

import pytest

import core.admin.timeline
from core import ids
from core.admin import operators
from core.admin.cell_sessions import at_home
from core.postgres.sessions import connect
from http_api.console import timeline, views
from http_api.console.views import MAX_VIEWS_OF_ONE
from http_api.paths import SIGN_IN_PATH
from tests.support.console_driver import ConsoleDriver, next_message
from tests.support.http_driver import HttpDriver
from tests.support.operator_tokens import make_operator
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, event, now_us
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

VIEW_SECONDS = 2.0  # from an event's answer to its appearance
_ROW = re.compile(r'<li data-id="(evt_[0-9A-Z]{26})"')


def here(tenant: Tenant) -> str:
    """The path of the tenant's timeline."""
    return f"/organizations/{tenant.organization_id}"


async def test_the_latest_events_come_first_and_earlier_ones_by_pages(
    console: ConsoleDriver, http: HttpDriver, tenant: Tenant
) -> None:
    assert "No events yet" in (await console.get(here(tenant))).text
    sent = timeline.PAGE_EVENTS + 3
    await http.ingest(tenant.key, [event() for _ in range(sent)])
    page = (await console.get(here(tenant))).text
    first = _ROW.findall(page)
    assert first == sorted(first, reverse=True)
    assert len(first) == timeline.PAGE_EVENTS
    older = re.search(r'class="older" href="/console([^"]*)"', page)
    assert older is not None
    page = (await console.get(older[1].replace("&amp;", "&"))).text
    second = _ROW.findall(page)
    assert len(second) == 3
    assert max(second) < min(first)
    assert "data-stream" not in page
    assert 'class="older"' not in page


async def test_who_has_no_event_among_those_looked_at_is_found_further_back(
    console: ConsoleDriver, http: HttpDriver, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.admin.timeline, "MAX_LOOKED_AT", 2)
    await http.ingest(tenant.key, [event("quiet"), *[event() for _ in range(3)]])
    page = (await console.get(f"{here(tenant)}?worker=quiet")).text
    assert "Nothing here" in page
    assert not _ROW.findall(page)
    older = re.search(r'class="older" href="/console([^"]*)"', page)
    assert older is not None
    page = (await console.get(older[1].replace("&amp;", "&"))).text
    assert len(_ROW.findall(page)) == 1
    links = await tenant.rows("SELECT worker_id FROM worker_links WHERE external_id = 'quiet'")
    path = f"{here(tenant)}/workers/{ids.text(ids.WORKER, links[0]['worker_id'])}"
    assert "No event of this worker is among the latest" in (await console.get(path)).text


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("worker", "crm-user-1", 2),
        ("worker", "nobody", None),
        ("app", "crm-hub", 3),
        ("app", "nothing", None),
        ("type", "deal.won", 1),
        ("type", "nothing", 0),
        ("category", "code", 1),
        ("category", "nothing", None),
        ("day", f"{datetime.now(UTC):%Y-%m-%d}", 3),
        ("day", "2020-02-29", 0),
        ("day", "2021-02-29", None),
    ],
)
async def test_filters_are_in_the_address(
    console: ConsoleDriver,
    http: HttpDriver,
    tenant: Tenant,
    name: str,
    value: str,
    found: int | None,
) -> None:
    events = [event(), event(eventType="deal.won"), event("crm-user-2", category="code")]
    await http.ingest(tenant.key, events)
    answer = await console.get(here(tenant), **{name: value})
    assert (answer.status_code, len(_ROW.findall(answer.text))) == (
        (200, found) if found is not None else (answer.status_code, 0)
    )
    assert ('role="alert"' in answer.text) is (found is None)
    assert ("Nothing matches" in answer.text) is (found == 0)
    assert (
        f'value="{value}"' in answer.text
        or f"<option selected>{value}" in answer.text
        or (found is None and name in ("app", "category"))
    )


async def test_what_was_sent_is_shown_as_text(
    console: ConsoleDriver, http: HttpDriver, tenant: Tenant
) -> None:
    hostile = "</pre><script>alert(1)</script>\u2028"
    sent = event(hostile, metadata={hostile: hostile})
    await http.ingest(tenant.key, [sent])
    async with asyncio.timeout(20):
        rows = await next_message(console.messages(f"{here(tenant)}/events/stream"), "latest")
    for text in ((await console.get(here(tenant))).text, rows):
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text


async def test_an_event_appears_within_two_seconds_once(
    console: ConsoleDriver, http: HttpDriver, tenant: Tenant
) -> None:
    await http.ingest(tenant.key, [event()])
    messages = console.messages(f"{here(tenant)}/events/stream?type=deal.won")
    assert _ROW.findall(await next_message(messages, "latest")) == []
    seen: list[str] = []
    for number in range(3):
        await http.ingest(tenant.key, [event(), event(eventType="deal.won")])
        rows = await next_message(messages, "events", VIEW_SECONDS + 1)
        seen += _ROW.findall(rows)
        assert len(seen) == number + 1
    assert seen == sorted(set(seen))


async def test_a_view_shows_what_fits_and_says_that_there_was_more(
    console: ConsoleDriver, http: HttpDriver, tenant: Tenant
) -> None:
    messages = console.messages(f"{here(tenant)}/events/stream")
    await next_message(messages, "latest")
    await http.ingest(tenant.key, [event() for _ in range(timeline.PAGE_EVENTS + 100)])
    await next_message(messages, "skipped")
    assert len(_ROW.findall(await next_message(messages, "events"))) == timeline.PAGE_EVENTS


async def test_a_view_ends_with_its_session(server: Addresses, tenant: Tenant) -> None:
    operator, token = await make_operator(server.database_url)
    async with ConsoleDriver(server.http) as driver:
        await driver.sign_in(token)
        messages = driver.messages(f"{here(tenant)}/events/stream")
        await next_message(messages, "latest")
        async with await connect(server.database_url) as db:
            await operators.revoke(at_home(db), operator, now_us())
        assert "session has ended" in await next_message(messages, "ended")
        assert [one async for one in messages] == []
        answer = await driver.client.get(
            f"/console{here(tenant)}/events/stream", headers={"Accept": "text/event-stream"}
        )
        assert answer.status_code == 401  # a browser does not try again


async def test_the_number_of_views_is_bounded(
    server: Addresses, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAX_VIEWS", MAX_VIEWS_OF_ONE + 1)
    path = f"{here(tenant)}/events/stream"
    operators_tokens = [(await make_operator(server.database_url))[1] for _ in range(3)]
    with RunningService(server.database_url) as service:
        async with contextlib.AsyncExitStack() as stack:
            drivers = []
            for token in operators_tokens:
                driver = await stack.enter_async_context(ConsoleDriver(service.addresses.http))
                await driver.sign_in(token)
                drivers.append(driver)
            one, other, third = drivers

            async def is_refused(console: ConsoleDriver) -> None:
                answer = await console.get(path)
                assert (answer.status_code, "<code>unavailable" in answer.text) == (503, True)
                assert int(answer.headers["retry-after"]) > 0

            opened = [one.messages(path) for _ in range(MAX_VIEWS_OF_ONE)]
            await asyncio.gather(*(next_message(view, "latest") for view in opened))
            await is_refused(one)
            opened.append(other.messages(path))
            await next_message(opened[-1], "latest")
            await is_refused(third)
            await asyncio.gather(*(view.aclose() for view in opened))

            async def is_free() -> bool:
                async with one.client.stream("GET", f"/console{path}") as again:
                    return again.status_code == 200

            await eventually(is_free, "the places of closed views are free")


async def test_a_browser_that_is_closed_closes_its_views(server: Addresses, tenant: Tenant) -> None:
    _, token = await make_operator(server.database_url)
    async with ConsoleDriver(server.http) as driver:
        await driver.sign_in(token)
        messages = driver.messages(f"{here(tenant)}/events/stream")
        await next_message(messages, "latest")
    assert [one async for one in messages] == []


async def test_views_do_not_hold_up_the_end_of_the_service(module_database: str) -> None:
    _, token = await make_operator(module_database)
    with RunningService(module_database, drain_seconds=60.0) as service:
        async with ConsoleDriver(service.addresses.http) as driver:
            await driver.sign_in(token)
            answer = await driver.post("/organizations", name="Views")
            path = answer.headers["location"].removeprefix("/console").removesuffix("/developer")
            messages = driver.messages(f"{path}/events/stream")
            await next_message(messages, "latest")
            async with asyncio.timeout(20):  # far less than the drain
                await asyncio.to_thread(service.stop)
            assert [one async for one in messages] == []


async def test_a_stranger_sees_nothing(server: Addresses, tenant: Tenant) -> None:
    async with ConsoleDriver(server.http) as driver:
        answer = await driver.get(here(tenant))
        assert answer.headers["location"].startswith(SIGN_IN_PATH)
