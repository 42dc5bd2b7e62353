"""The pages that only read: workers, usage, rejections, the audit log; and a cell that is away."""

from __future__ import annotations

import asyncio
import re

import pytest

from core.timestamps import month_start
from http_api.console import usage, workers
from http_api.manage import bounds
from tests.conftest import MakeTenant
from tests.support.cells import add_cell, make_tenant_in
from tests.support.console_driver import ConsoleDriver, next_message
from tests.support.http_driver import HttpDriver
from tests.support.operator_tokens import make_operator
from tests.support.postgres_server import postgres_server
from tests.support.running_service import RunningService
from tests.support.tenant import Tenant, event, make_tenant, now_us, snapshot
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


def here(tenant: Tenant) -> str:
    """The path of the tenant's pages."""
    return f"/organizations/{tenant.organization_id}"


async def test_a_worker_has_cards_plots_and_events(
    console: ConsoleDriver, http: HttpDriver, tenant: Tenant
) -> None:
    assert "No workers yet" in (await console.get(f"{here(tenant)}/workers")).text
    for value in (3, 1e308, -1e308):
        await http.snapshot(tenant.key, snapshot(metrics={"open": value, "load": "<b>low</b>"}))
    await http.ingest(tenant.key, [event()])
    page = (await console.get(f"{here(tenant)}/workers", search="CRM-user")).text
    (path,) = re.findall(r'href="/console([^"]*/workers/wrk_[^"]*)"', page)
    page = (await console.get(path)).text
    assert page.count("<polyline") == 1
    assert "open, the last 3 values" in page
    assert "&lt;b&gt;low&lt;/b&gt;" in page
    assert "ticket.resolved" in page
    nobody = await console.get(f"{here(tenant)}/workers", search="nobody")
    assert "Nobody found" in nobody.text


async def test_a_worker_with_more_than_a_page_can_show(
    console: ConsoleDriver,
    http: HttpDriver,
    new_tenant: MakeTenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "STRIP_CARDS", 2)
    monkeypatch.setattr(workers, "STRIP_LINKS", 1)
    tenant = await new_tenant()
    many = {f"metric-{n:03}": n for n in range(workers.CARD_METRICS + 7)}
    for number in range(3):
        for name in ("ann", "ann too"):
            actor = {"externalId": name, "email": "ann@example.com"}
            one = snapshot(snapshotType=f"type-{number}", metrics=many, actor=actor)
            await http.snapshot(tenant.key, one)
    page = (await console.get(f"{here(tenant)}/workers")).text
    (path,) = re.findall(r'href="/console([^"]*/workers/wrk_[^"]*)"', page)
    page = (await console.get(path)).text
    assert page.count('<article class="card">') == 2
    assert page.count("<polyline") == 2 * workers.CARD_METRICS
    assert page.count("7 more are not shown") == 2
    assert "There are more cards" in page
    assert "and 1 more" in page


async def test_usage_has_the_quota_the_traffic_and_the_codes(
    console: ConsoleDriver, http: HttpDriver, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=10)
    await http.ingest(tenant.key, [event() for _ in range(12)])

    async def is_shown() -> bool:
        page = (await console.get(f"{here(tenant)}/usage")).text
        return "<rect" in page.partition("Events by app")[2] and "quota_exceeded" in page

    await eventually(is_shown, "the servers' figures are written")
    page = (await console.get(f"{here(tenant)}/usage", minutes="180")).text
    assert "<strong>10</strong> of 10 events" in page
    assert 'aria-label="100 % of the quota is used"' in page
    assert "10 accepted and 2 rejected" in page
    assert f"{month_start(now_us()):%B %Y}" in page


@pytest.mark.parametrize(("used", "quota", "share"), [(1, None, None), (0, 0, 1.0), (9, 3, 1.0)])
def test_the_share_of_a_quota(used: int, quota: int | None, share: float | None) -> None:
    assert usage._share(used, quota) == share


async def test_a_rejection_tells_why_and_what_to_send_instead(
    console: ConsoleDriver, http: HttpDriver, tenant: Tenant
) -> None:
    tab = f"{here(tenant)}/rejections"
    assert "Nothing was rejected" in (await console.get(tab)).text
    reply = await http.ingest(tenant.key, [event(eventType="ticket.lost"), event(duration=-1)])
    request_id = reply.body["error"]["requestId"]

    async def is_kept() -> bool:
        return request_id in (await console.get(tab)).text

    await eventually(is_kept, "the rejection is kept")
    for filters in ({"request": f" {request_id} "}, {"code": "forbidden_event_type"}):
        page = (await console.get(tab, **filters)).text
        assert "ticket.lost" in page
        assert "/developers/reference#forbidden_event_type" in page
        instead = re.sub("<[^>]*>", "", page.partition('data-label="Send instead"')[2])
        assert "deal.won" in instead  # which the app may send
    assert "No such rejection" in (await console.get(tab, request="req_0")).text
    unknown = await console.get(tab, code="nothing")
    assert (unknown.status_code, 'role="alert"' in unknown.text) == (400, True)


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("", {"before": "evt_0"}),
        ("", {"worker": "\0"}),
        ("/rejections", {"before": "x"}),
        ("/rejections", {"request": "\0"}),
        ("/audit", {"before": "9" * 30}),
        ("/workers", {"after": "wrk_"}),
        ("/workers", {"search": "\0"}),
        ("/usage", {"minutes": "\0"}),
    ],
)
async def test_an_address_that_no_page_leads_to_is_refused(
    console: ConsoleDriver, tenant: Tenant, path: str, parameters: dict[str, str]
) -> None:
    answer = await console.get(f"{here(tenant)}{path}", **parameters)
    assert (answer.status_code, "<code>invalid_value</code>" in answer.text) == (400, True)


async def test_a_cell_that_is_away_is_named_and_its_pages_go_on_when_it_is_back(
    database_url: str,
) -> None:
    _, token = await make_operator(database_url)
    with postgres_server() as north_server, RunningService(database_url) as service:
        north = await add_cell(database_url, "north", north_server.conninfo)
        away = await make_tenant_in(north, database_url)
        near = await make_tenant(database_url, cell_name="home")
        async with ConsoleDriver(service.addresses.http) as driver:
            await driver.sign_in(token)
            messages = driver.messages(f"{here(away)}/events/stream")
            await next_message(messages, "latest")
            north_server.kill()
            try:
                await next_message(messages, "away")
                page = (await driver.get("/organizations")).text
                assert "the cell north is left out" in page
                assert near.organization.name in page
                assert away.organization.name not in page
                answer = await driver.get(here(away))
                assert (answer.status_code, "the cell north" in answer.text.lower()) == (503, True)
                assert "<code>unavailable</code>" in answer.text
                assert int(answer.headers["retry-after"]) >= 1
                assert (await driver.get(here(near))).status_code == 200
            finally:
                north_server.start()
            await next_message(messages, "back")


async def test_a_page_that_takes_too_long_says_so(
    module_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await make_tenant(module_database)
    _, token = await make_operator(module_database)
    with RunningService(module_database) as service:
        async with (
            ConsoleDriver(service.addresses.http) as console,
            await tenant.connect() as db,
        ):
            assert (await console.sign_in(token)).status_code == 303
            monkeypatch.setattr(bounds, "ANSWER_SECONDS", 0.2)  # which a sign-in may take, too
            async with db.transaction():
                await db.execute("LOCK TABLE organizations IN ACCESS EXCLUSIVE MODE")
                answers = await asyncio.gather(*(console.get(here(tenant)) for _ in range(9)))
    for answer in answers:
        assert (answer.status_code, "<code>unavailable</code>" in answer.text) == (503, True)
        assert int(answer.headers["retry-after"]) >= 1
