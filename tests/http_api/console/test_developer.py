"""The developer tab: apps, whitelists and keys that work, and that no longer do."""

from __future__ import annotations

import asyncio
import re

import pytest

from core import ids
from http_api.console.developer import MAX_SHOWN_APPS
from http_api.paths import CONSOLE_PATH
from tests.support.console_driver import ConsoleDriver
from tests.support.http_driver import HttpDriver
from tests.support.tenant import Tenant, event
from tests.support.waiting import IN_FORCE_SECONDS, eventually

pytestmark = pytest.mark.anyio

_KEY = re.compile(r"wp_live_[0-9a-f]{32}")


def here(tenant: Tenant) -> str:
    """The path of the tenant's tab."""
    return f"/organizations/{tenant.organization_id}/developer"


def app_path(tenant: Tenant) -> str:
    """The path of the tenant's app."""
    return f"{here(tenant)}/apps/{ids.text(ids.APP, tenant.app.id)}"


async def status(http: HttpDriver, key: str) -> int:
    """The answer to a ping with the key."""
    answer = await http.client.get(
        "/api/v1/ingest/ping", headers={"Authorization": f"Bearer {key}"}
    )
    return answer.status_code


async def test_from_a_name_to_a_key_that_works(console: ConsoleDriver, http: HttpDriver) -> None:
    made = await console.post("/organizations", name="Fabrikam", monthly_quota="1,000")
    assert made.status_code == 303
    tab = made.headers["location"].removeprefix(CONSOLE_PATH)
    assert "No apps yet" in (await console.get(tab)).text
    made = await console.post(f"{tab}/apps", slug="crm-hub", event_types="deal.won, deal.lost")
    assert made.headers["location"] == f"{CONSOLE_PATH}{tab}?done=app&app=crm-hub#crm-hub"
    page = (await console.get(f"{tab}?done=app")).text
    assert "<code>deal.lost</code>" in page
    (app,) = set(re.findall(r'action="/console([^"]*/apps/app_[^"/]*)/keys"', page))
    page = (await console.post(f"{app}/keys", requests_per_second="7")).text
    (key,) = _KEY.findall(page)
    assert await status(http, key) == 200
    assert key not in (await console.get(tab)).text
    assert f"wp_live_…{key[-4:]}" in (await console.get(tab)).text


async def test_a_revoked_key_is_refused_within_a_second(
    console: ConsoleDriver, http: HttpDriver, tenant: Tenant
) -> None:
    assert await status(http, tenant.key) == 200
    key_path = f"{here(tenant)}/keys/{ids.text(ids.KEY, tenant.api_key.id)}"
    answer = await console.post(f"{key_path}/revoke")
    assert (
        answer.headers["location"]
        == f"{CONSOLE_PATH}{here(tenant)}?done=revoked&app=crm-hub#crm-hub"
    )

    async def is_refused() -> bool:
        return await status(http, tenant.key) == 401

    await eventually(is_refused, "the key is refused", seconds=IN_FORCE_SECONDS)
    assert "1 revoked or expired" in (await console.get(here(tenant))).text
    refused = await console.post(f"{key_path}/rotate")  # there is nothing to replace
    assert (refused.status_code, 'role="alert"' in refused.text) == (409, True)


async def test_many_apps_are_shown_page_by_page(console: ConsoleDriver, tenant: Tenant) -> None:
    slugs = [f"app-{number:02}" for number in range(MAX_SHOWN_APPS)]  # before crm-hub
    for slug in slugs:
        made = await console.post(f"{here(tenant)}/apps", slug=slug, event_types="deal.won")
        assert made.status_code == 303
    first = (await console.get(here(tenant))).text
    assert re.findall(r'<section class="card app" id="([^"]*)"', first) == slugs
    (more,) = re.findall(r'href="/console([^"]*)">More apps', first)
    assert re.findall(
        r'<section class="card app" id="([^"]*)"', (await console.get(more)).text
    ) == ["crm-hub"]
    # A change of an app that is on another page leads to that app.
    changed = await console.post(f"{app_path(tenant)}/allow", event_types="deal.lost")
    landed = await console.get(changed.headers["location"].removeprefix(CONSOLE_PATH))
    assert "<code>deal.lost</code>" in landed.text
    hostile = await console.get(f"{here(tenant)}?after=%00")
    assert hostile.status_code == 400


async def test_a_rotated_key_works_beside_the_new_one(
    console: ConsoleDriver, http: HttpDriver, tenant: Tenant
) -> None:
    key_path = f"{here(tenant)}/keys/{ids.text(ids.KEY, tenant.api_key.id)}"
    page = (await console.post(f"{key_path}/rotate", old_ends_in_hours="2")).text
    (key,) = _KEY.findall(page)
    assert f"The old one, …{tenant.key[-4:]}, works until" in page
    assert [await status(http, one) for one in (key, tenant.key)] == [200, 200]


async def test_the_whitelist_is_in_force_as_it_is_shown(
    console: ConsoleDriver, http: HttpDriver, tenant: Tenant
) -> None:
    async def is_accepted() -> bool:
        answer = await http.client.post(
            "/api/v1/ingest/events",
            json={"events": [event(eventType="page.viewed")]},
            headers={"Authorization": f"Bearer {tenant.key}"},
        )
        return answer.status_code == 202

    assert not await is_accepted()
    await console.post(f"{app_path(tenant)}/allow", event_types="page.viewed page.left")
    await eventually(is_accepted, "the type is allowed", seconds=IN_FORCE_SECONDS)
    assert "<code>page.left</code>" in (await console.get(here(tenant))).text
    await console.post(f"{app_path(tenant)}/deny", event_types="page.left")
    assert "<code>page.left</code>" not in (await console.get(here(tenant))).text


@pytest.mark.parametrize(
    ("path", "fields", "status", "said"),
    [
        ("apps", {"slug": "Not A Slug"}, 400, "the slug"),
        ("apps", {"slug": "crm-hub"}, 409, "exists already"),
        ("APP/keys", {"expires_on": "2020-01-01"}, 400, "must be in the future"),
        ("APP/keys", {"expires_on": "soon"}, 400, "is no day"),
        ("APP/keys", {"requests_per_second": "many"}, 400, "must be a whole number"),
        ("APP/keys", {"requests_per_second": "0"}, 400, "must be 1 to"),
        ("APP/allow", {"event_types": "a b"}, 400, "must be 3 to 64 characters"),
        ("APP/allow", {"event_types": " "}, 400, "at least one event type"),
        ("APP/deny", {"event_types": "not.there"}, 404, "not on the whitelist"),
        ("KEY/rotate", {"old_ends_in_hours": "999999"}, 400, "must end within"),
        ("KEY/rotate", {"old_ends_in_hours": "-1"}, 400, "must be a whole number"),
    ],
)
async def test_what_breaks_a_rule_is_said_on_the_page(
    console: ConsoleDriver,
    tenant: Tenant,
    path: str,
    fields: dict[str, str],
    status: int,
    said: str,
) -> None:
    path = path.replace("APP", f"apps/{ids.text(ids.APP, tenant.app.id)}")
    path = path.replace("KEY", f"keys/{ids.text(ids.KEY, tenant.api_key.id)}")
    answer = await console.post(f"{here(tenant)}/{path}", **fields)
    assert (answer.status_code, said in answer.text.lower()) == (status, True), answer.text


async def test_what_is_another_organizations_is_not_there(
    console: ConsoleDriver, tenant: Tenant
) -> None:
    other = await console.post("/organizations", name=f"Other than {tenant.organization_id}")
    tab = other.headers["location"].removeprefix(CONSOLE_PATH)
    for path in (
        f"apps/{ids.text(ids.APP, tenant.app.id)}/keys",
        f"keys/{ids.text(ids.KEY, tenant.api_key.id)}/revoke",
    ):
        assert (await console.post(f"{tab}/{path}")).status_code == 404


async def test_changes_are_in_the_audit_log_with_the_operator(
    console: ConsoleDriver, tenant: Tenant
) -> None:
    await console.post(f"{app_path(tenant)}/allow", event_types="page.viewed")
    for path in (f"/organizations/{tenant.organization_id}/audit", "/audit"):
        page = (await console.get(path)).text
        assert "app.allow" in page
        assert '<span class="badge">console</span>' in page
        assert "allowedEventTypes" in page


@pytest.mark.parametrize("form", ["new", "rotate"])
async def test_a_form_that_is_sent_twice_makes_one_key(
    console: ConsoleDriver, tenant: Tenant, form: str
) -> None:
    page = (await console.get(here(tenant))).text
    ids_of_forms = re.findall(r'name="new_key_id" value="(key_[0-9A-Z]{26})"', page)
    assert len(set(ids_of_forms)) == 2
    path = f"{app_path(tenant)}/keys"
    if form == "rotate":
        path = f"{here(tenant)}/keys/{ids.text(ids.KEY, tenant.api_key.id)}/rotate"
    answers = await asyncio.gather(
        *(console.post(path, new_key_id=ids_of_forms[0]) for _ in range(3))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    assert sum(len(_KEY.findall(answer.text)) for answer in answers) == 1
    assert [answer for answer in answers if "was sent before" in answer.text]
    page = (await console.get(here(tenant))).text
    assert page.count('<th scope="row"><code>wp_live_') == 2
