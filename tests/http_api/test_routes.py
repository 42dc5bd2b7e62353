"""Data goes straight to its endpoints, all else through FastAPI; no client can tell which."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from fastapi import FastAPI

import http_api.parsing
from core import ingest
from core.ingest import Ingestor
from http_api.cycle import WHOLE_ANSWER, Cycle
from tests.conftest import MakeTenant
from tests.support.raw_http import EVENTS, ONE, PING, SNAPSHOTS, Answer, ask, connect, head, post
from tests.support.running_service import Addresses
from tests.support.tenant import UNKNOWN_KEY, Tenant, snapshot
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


CARD = json.dumps(snapshot()).encode()


def requests(key: str | None) -> dict[str, bytes]:
    """One on each endpoint: the first goes through FastAPI."""
    return {
        PING: head(key, "GET", PING),
        EVENTS: post(key, ONE),
        SNAPSHOTS: post(key, CARD, SNAPSHOTS),
    }


def without_its_own(answer: Answer) -> tuple[Any, ...]:
    """What answers to different requests have in common, order of headers included."""
    its_own = {"x-request-id", "date", "x-ratelimit-remaining"}
    headers = [(name, None if name in its_own else value) for name, value in answer.headers.items()]
    error = {**answer.json["error"], "requestId": None}
    assert answer.json["error"]["requestId"] == answer.headers["x-request-id"]
    return answer.status, headers, error


async def test_data_does_not_go_through_fastapi(
    server: Addresses, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def called(*_: object) -> None:
        raise AssertionError

    asked = requests(tenant.key)
    monkeypatch.setattr(FastAPI, "__call__", called)
    assert (await ask(server.http, asked[EVENTS])).status == 202
    assert (await ask(server.http, asked[SNAPSHOTS])).status == 202
    assert (await ask(server.http, asked[PING])).status == 500


@pytest.mark.parametrize("key", [None, "nonsense", UNKNOWN_KEY])
async def test_a_refusal_is_the_same_on_both_roads(server: Addresses, key: str | None) -> None:
    answers = [await ask(server.http, request) for request in requests(key).values()]
    assert answers[0].status == 401
    assert len({str(without_its_own(answer)) for answer in answers}) == 1


async def test_a_refusal_of_a_known_key_is_the_same_on_both_roads(
    server: Addresses, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(developer_api=False)
    answers = [await ask(server.http, request) for request in requests(tenant.key).values()]
    assert answers[0].status == 402
    assert len({str(without_its_own(answer)) for answer in answers}) == 1


async def test_a_crash_is_the_same_on_both_roads_and_logged_once(
    server: Addresses,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crash(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(Ingestor, "admit", crash)
    answers = [await ask(server.http, request) for request in requests(tenant.key).values()]
    assert answers[0].status == 500
    assert len({str(without_its_own(answer)) for answer in answers}) == 1
    assert b"secret" not in answers[0].body
    logged = [record.__dict__["request_id"] for record in caplog.records]
    assert logged == [answer.headers["x-request-id"] for answer in answers]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [("revoke", 401, "key_revoked"), ("deny", 403, "forbidden_event_type")],
)
async def test_the_rights_that_count_are_those_after_a_slow_body(
    server: Addresses,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    status: int,
    code: str,
) -> None:
    monkeypatch.setattr(ingest, "MAX_CALLER_AGE_SECONDS", 0)
    async with connect(server.http) as connection:
        announced = head(tenant.key, Content_Length=len(ONE), Expect="100-continue")
        await connection.send(announced)
        assert await connection.line() == b"HTTP/1.1 100 Continue\r\n"  # the caller is admitted
        await connection.line()
        await (tenant.revoke() if change == "revoke" else tenant.deny("ticket.resolved"))

        async def is_in_force() -> bool:
            return (await ask(server.http, post(tenant.key, ONE))).status == status

        await eventually(is_in_force, "the change is in force")
        stored = len(await tenant.events())
        await connection.send(ONE)
        answer = await connection.answer()
    assert (answer.status, answer.code) == (status, code)
    assert len(await tenant.events()) == stored


async def test_a_refusal_is_sent_as_one_message(
    server: Addresses, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    class Noting(Cycle):
        async def send(self, message: Any) -> None:
            sent.append(message["type"])
            await super().send(message)

    monkeypatch.setattr(http_api.parsing, "Cycle", Noting)
    for key, status in ((UNKNOWN_KEY, 401), (tenant.key, 400)):
        assert (await ask(server.http, post(key, b"{}"))).status == status
    assert sent == [WHOLE_ANSWER] * 2


async def test_a_client_that_goes_away_waits_for_no_turn(
    server: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, ended = threading.Event(), threading.Event()  # the service has a loop of its own

    async def never(*_: object, **__: object) -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(Ingestor, "admit", never)
    for path, request in requests(UNKNOWN_KEY).items():
        async with connect(server.http) as connection:
            await connection.send(request)
            await eventually(waiting.is_set, f"{path} waits")
            connection.reset()
            await eventually(ended.is_set, f"nobody waits for {path}")
        waiting.clear()
        ended.clear()


async def test_a_connection_is_told_to_come_again_while_its_last_key_was_nobodys(
    server: Addresses, tenant: Tenant, new_tenant: MakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut_out = await new_tenant(developer_api=False)
    told: list[bool] = []
    admit = Ingestor.admit

    async def noted(ingestor: Ingestor, authorization: str | None, *, was_refused: bool) -> Any:
        told.append(was_refused)
        return await admit(ingestor, authorization, was_refused=was_refused)

    monkeypatch.setattr(Ingestor, "admit", noted)
    async with connect(server.http) as connection:
        known = (tenant.key, tenant.key, UNKNOWN_KEY, shut_out.key, UNKNOWN_KEY)
        for key in (UNKNOWN_KEY, None, None, *known):
            await connection.send(post(key, ONE))
            await connection.answer()
            await connection.send(head(None, "GET", "/healthz"))  # needs no key
            await connection.answer()
    assert told == [False, True, True, True, False, False, True, False]
