"""Forms of the console: whose they are, and what an operator may do."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from http_api.attempts import MAX_UNKNOWN_A_MINUTE
from http_api.console.security import COOKIE
from http_api.manage.bounds import MAX_BODY_BYTES
from http_api.paths import CONSOLE_PATH, SIGN_IN_PATH
from tests.support.console_driver import HTML, ConsoleDriver
from tests.support.operator_tokens import make_operator
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio

ORGANIZATIONS = f"{CONSOLE_PATH}/organizations"


def refused(answer: httpx.Response, status: int, code: str) -> None:
    """Check that an answer is an error page with the code and the request id."""
    assert (answer.status_code, f"<code>{code}</code>" in answer.text) == (status, True)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-request-id"] in answer.text
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("token", [None, "", "0" * 64, "ä", "of another session"])
async def test_a_form_without_the_token_of_its_session_is_refused(
    server: Addresses, console: ConsoleDriver, reading: ConsoleDriver, token: str | None
) -> None:
    if token == "of another session":
        token = await reading.form_token()
    fields = {"name": "never made"} | ({} if token is None else {"csrf": token})
    refused(await console.client.post(ORGANIZATIONS, data=fields), 403, "forbidden_origin")
    assert "never made" not in (await console.get("/organizations")).text


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "OWN"}, True),
        ({}, True),
    ],
)
@pytest.mark.parametrize("path", ["/sign-out", "/sign-in"])
async def test_pages_of_other_sites_send_no_forms(
    server: Addresses, console: ConsoleDriver, path: str, headers: dict[str, str], is_own: bool
) -> None:
    headers = {name: server.http if value == "OWN" else value for name, value in headers.items()}
    data = {"csrf": await console.form_token(), "token": "wrong"}
    answer = await console.client.post(f"{CONSOLE_PATH}{path}", data=data, headers=headers)
    if is_own:
        assert answer.status_code in (303, 401)
    else:
        refused(answer, 403, "forbidden_origin")


async def test_who_may_only_read_is_shown_no_forms_and_changes_nothing(
    reading: ConsoleDriver, tenant: Tenant
) -> None:
    here = f"/organizations/{tenant.organization_id}"
    for path in ("/organizations", here, f"{here}/developer", f"{here}/rejections"):
        page = (await reading.get(path)).text
        assert page.count('method="post"') == 1  # to sign out
        assert "read only" in page
    forms = {
        "/organizations": {"name": "never made"},
        f"{here}/developer/apps": {"slug": "never-made"},
        f"{here}/developer/keys/{'key_' + '0' * 26}/revoke": {},
    }
    for path, fields in forms.items():
        refused(await reading.post(path, **fields), 403, "read_only")


async def test_a_stranger_who_sends_a_form_is_told_to_sign_in(server: Addresses) -> None:
    async with httpx.AsyncClient(base_url=server.http, headers=HTML) as client:
        answer = await client.post(ORGANIZATIONS, data={"name": "never made"})
        refused(answer, 401, "missing_token")
        client.cookies.set("wp_console", "made up")
        refused(await client.post(ORGANIZATIONS, data={"name": "x"}), 401, "missing_token")


async def test_made_up_sessions_are_bounded_and_good_ones_are_not(
    server: Addresses, console: ConsoleDriver
) -> None:
    with RunningService(server.database_url) as service:
        url = service.addresses.http
        _, token = await make_operator(server.database_url)
        async with (
            httpx.AsyncClient(base_url=url, headers=HTML) as client,
            ConsoleDriver(url) as driver,
        ):
            asked = []
            for number in range(MAX_UNKNOWN_A_MINUTE + 5):
                headers = {"Cookie": f"{COOKIE}=made up {number}"}
                asked.append(client.get(ORGANIZATIONS, headers=headers))
            answers = [answer.status_code for answer in await asyncio.gather(*asked)]
            assert sorted(answers) == [303] * MAX_UNKNOWN_A_MINUTE + [429] * 5
            assert (await driver.sign_in(token)).status_code == 303
            assert (await driver.get("/organizations")).status_code == 200


async def test_a_form_is_bounded(console: ConsoleDriver) -> None:
    answer = await console.post("/organizations", name="x" * MAX_BODY_BYTES)
    refused(answer, 413, "body_too_large")
    answer = await console.client.post(ORGANIZATIONS, content=b"&".join([b"a=b"] * 200))
    refused(answer, 400, "invalid_value")
    refused(await console.client.post(ORGANIZATIONS, content=b"a=%ff"), 400, "invalid_value")
    refused(await console.post("/organizations", name="a\0b"), 400, "invalid_value")


async def test_pages_load_and_send_only_here_and_are_kept_nowhere(
    server: Addresses, console: ConsoleDriver
) -> None:
    for answer in (
        await console.get("/organizations"),
        await console.get("/nothing"),
        await console.client.get(SIGN_IN_PATH),
    ):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "form-action 'self'; frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


async def test_what_is_not_there_says_so_in_the_frame(console: ConsoleDriver) -> None:
    refused(await console.get("/nothing"), 404, "not_found")
    refused(await console.get("/organizations/nothing"), 404, "not_found")
    refused(await console.get(f"/organizations/org_{'0' * 26}"), 404, "not_found")
    answer = await console.get("/sign-out")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_the_path_alone_leads_to_the_first_page(server: Addresses) -> None:
    async with httpx.AsyncClient(base_url=server.http) as client:
        for path in (CONSOLE_PATH, f"{CONSOLE_PATH}/"):
            answer = await client.get(path)
            assert answer.is_redirect
            assert answer.headers["location"] == ORGANIZATIONS


async def test_what_people_have_named_things_stays_text(console: ConsoleDriver) -> None:
    hostile = '"><script>alert(1)</script>'
    answer = await console.post("/organizations", name=hostile)
    assert answer.status_code == 303
    here = answer.headers["location"].removeprefix(CONSOLE_PATH).removesuffix("/developer")
    await console.post(f"{here}/developer/apps", slug="a", name=hostile, event_types="deal.won")
    for tab in ("", "/workers", "/developer", "/usage", "/rejections", "/audit"):
        page = await console.get(f"{here}{tab}", request=hostile, type=hostile, search=hostile)
        assert page.status_code == 200, tab
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert" in page.text
