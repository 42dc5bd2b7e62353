"""Signing in to the console and out of it, by token and by link."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from core.admin import operators, sign_ins
from core.admin.cell_sessions import at_home
from core.postgres.sessions import connect
from http_api.attempts import MAX_UNKNOWN_A_MINUTE
from http_api.paths import CONSOLE_PATH, SIGN_IN_PATH
from tests.support.console_driver import HTML, ConsoleDriver
from tests.support.operator_tokens import make_operator
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import now_us

pytestmark = pytest.mark.anyio

NOBODYS = "wp_ops_" + "0" * 32


async def link(server: Addresses) -> str:
    """The secret of a link that signs in."""
    operator, _ = await make_operator(server.database_url)
    async with await connect(server.database_url) as db:
        return await sign_ins.make_link(db, operator, now_us())


async def test_a_stranger_is_led_to_the_sign_in_and_then_to_the_page(server: Addresses) -> None:
    _, token = await make_operator(server.database_url)
    async with ConsoleDriver(server.http) as driver:
        answer = await driver.get("/audit", before="9")
        assert answer.status_code == 303
        assert answer.headers["location"] == f"{SIGN_IN_PATH}?next=%2Fconsole%2Faudit%3Fbefore%3D9"
        page = await driver.client.get(answer.headers["location"])
        assert 'name="next" value="/console/audit?before=9"' in page.text
        answer = await driver.sign_in(token, next="/console/audit?before=9")
        assert answer.headers["location"] == "/console/audit?before=9"
        assert (await driver.get("/audit")).status_code == 200


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/console/",
        "/\\evil.example",
        "/consoles",
        "javascript:alert(1)",
        "/api/v1/manage/operator",
        f"{SIGN_IN_PATH}?link=x",
        "/console/../developers",
        "/console/%2e%2e/developers",
        "/console/..\\..\\evil",
        "/console/\t/evil",
    ],
)
async def test_nobody_is_led_elsewhere(server: Addresses, elsewhere: str) -> None:
    _, token = await make_operator(server.database_url)
    async with ConsoleDriver(server.http) as driver:
        page = await driver.client.get(SIGN_IN_PATH, params={"next": elsewhere})
        assert 'name="next" value=""' in page.text
        answer = await driver.sign_in(token, next=elsewhere)
        assert answer.headers["location"] == f"{CONSOLE_PATH}/organizations"


async def test_the_cookie_is_for_the_console_of_this_site_alone(server: Addresses) -> None:
    _, token = await make_operator(server.database_url)
    async with ConsoleDriver(server.http) as driver:
        (cookie,) = (await driver.sign_in(token)).headers.get_list("set-cookie")
    name, *attributes = (part.strip() for part in cookie.split(";"))
    assert name.startswith("wp_console=")
    assert set(attributes) == {
        "HttpOnly",
        f"Max-Age={sign_ins.SESSION_SECONDS}",
        "Path=/console",
        "SameSite=strict",
    }


async def test_behind_a_proxy_with_tls_the_cookie_is_secure(server: Addresses) -> None:
    _, token = await make_operator(server.database_url)
    with RunningService(server.database_url, public_url="https://ingest.example") as service:
        async with ConsoleDriver(service.addresses.http) as driver:
            answer = await driver.sign_in(token)
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("token", ["", "wrong", NOBODYS])
async def test_a_token_that_nobody_has_is_refused(server: Addresses, token: str) -> None:
    async with ConsoleDriver(server.http) as driver:
        answer = await driver.sign_in(token)
        assert answer.status_code == 401
        assert 'role="alert"' in answer.text
        assert "set-cookie" not in answer.headers


async def test_a_link_signs_in_once_by_the_push_of_its_button(server: Addresses) -> None:
    secret = await link(server)
    async with ConsoleDriver(server.http) as driver:
        for _ in range(2):  # whoever only looks does not use it up
            page = await driver.client.get(SIGN_IN_PATH, params={"link": secret})
            assert "This link signs you in once." in page.text
        answer = await driver.sign_in("", link=secret)
        assert answer.headers["location"] == f"{CONSOLE_PATH}/organizations"
        assert (await driver.get("/organizations")).status_code == 200
    async with ConsoleDriver(server.http) as another:
        answer = await another.sign_in("", link=secret)
        assert (answer.status_code, "used already" in answer.text) == (401, True)


@pytest.mark.parametrize(
    ("site", "sends_itself"),
    [(None, True), ("none", True), ("same-origin", True), ("cross-site", False)],
)
async def test_a_link_on_another_site_signs_nobody_in_by_itself(
    server: Addresses, site: str | None, sends_itself: bool
) -> None:
    async with ConsoleDriver(server.http) as driver:
        headers = {} if site is None else {"Sec-Fetch-Site": site}
        page = await driver.client.get(SIGN_IN_PATH, params={"link": "x"}, headers=headers)
    assert ("data-send" in page.text) == sends_itself
    assert '<button type="submit" class="primary">Sign in</button>' in page.text


async def test_of_many_who_use_a_link_at_once_one_is_signed_in(server: Addresses) -> None:
    secret = await link(server)
    with RunningService(server.database_url) as service:  # and at several servers
        async with (
            ConsoleDriver(server.http) as one,
            ConsoleDriver(service.addresses.http) as other,
        ):
            answers = await asyncio.gather(
                *(driver.sign_in("", link=secret) for driver in (one, other) * 3)
            )
    assert sorted(answer.status_code for answer in answers) == [303, *[401] * 5]
    assert sum("set-cookie" in answer.headers for answer in answers) == 1


async def test_signing_out_ends_the_session_for_everybody_who_has_it(
    server: Addresses, console: ConsoleDriver
) -> None:
    cookies = dict(console.client.cookies)
    answer = await console.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, SIGN_IN_PATH)
    assert "wp_console" not in console.client.cookies
    async with httpx.AsyncClient(base_url=server.http, cookies=cookies, headers=HTML) as client:
        assert (await client.get("/console/organizations")).status_code == 303


async def test_revoking_the_operator_ends_the_session_at_once(server: Addresses) -> None:
    operator, token = await make_operator(server.database_url)
    async with ConsoleDriver(server.http) as driver:
        await driver.sign_in(token)
        assert (await driver.get("/organizations")).status_code == 200
        async with await connect(server.database_url) as db:
            await operators.revoke(at_home(db), operator, now_us())
        assert (await driver.get("/organizations")).status_code == 303


async def test_the_sign_in_repeats_nothing_of_what_failed(server: Addresses) -> None:
    secret = '"><script>alert(1)</script>'
    async with ConsoleDriver(server.http) as driver:
        page = await driver.client.get(SIGN_IN_PATH, params={"link": secret, "next": secret})
        assert "<script>alert" not in page.text
        assert secret not in (await driver.sign_in(secret)).text


async def test_unknown_tokens_are_bounded_and_known_ones_are_not(server: Addresses) -> None:
    _, token = await make_operator(server.database_url)
    with RunningService(server.database_url) as service:
        async with ConsoleDriver(service.addresses.http) as driver:
            assert (await driver.sign_in(token)).status_code == 303
            for number in range(MAX_UNKNOWN_A_MINUTE):
                secret = {"link": "x"} if number % 2 else {}
                assert (await driver.sign_in(NOBODYS, **secret)).status_code == 401
            for secret in ({}, {"link": "x"}):
                answer = await driver.sign_in(NOBODYS, **secret)
                assert (answer.status_code, 'role="alert"' in answer.text) == (429, True)
                assert int(answer.headers["retry-after"]) <= 60
            assert (await driver.sign_in(token)).status_code == 303
            assert (await driver.get("/organizations")).status_code == 200
