"""Garbage of many kinds: always an answer, enveloped, and never one of the 500s."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import MakeTenant
from tests.support.raw_http import EVENTS, SNAPSHOTS, RawConnection, connect, post
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, event, snapshot

BOUNDED = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SAMPLES = {
    EVENTS: json.dumps({"events": [event(metadata={"a": [1, "é"]}, duration=1), event()]}).encode(),
    SNAPSHOTS: json.dumps(snapshot(metadata={"a": None})).encode(),
}
PATHS = st.sampled_from([EVENTS, SNAPSHOTS])
PIECES = st.binary(max_size=8) | st.sampled_from(
    [
        *(b"\0", b"\xff", b"[", b"]", b"{", b"}", b'"', b"\\", b",", b":", b"-", b"\n", b"null"),
        *(b"NaN", b"1e999", b'"\\u0000"', b'"\\ud800"', b"9" * 400, b"[" * 2_000),
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A valid body with some places overwritten."""
    path = draw(PATHS)
    body = SAMPLES[path]
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(body)))
        end = draw(st.integers(begin, min(begin + 12, len(body))))
        body = body[:begin] + draw(PIECES) + body[end:]
    return path, body


@pytest.fixture
def tenant(new_tenant: MakeTenant) -> Tenant:
    return asyncio.run(_made(new_tenant))


async def _made(new_tenant: MakeTenant) -> Tenant:
    return await new_tenant()


def send_twice(url: str, request: bytes, then: bytes) -> tuple[int, int]:
    """The statuses of a request, and of a good one that follows it on the same connection."""

    async def talk() -> tuple[int, int]:
        async with connect(url) as connection:
            return await _status(connection, request), await _status(connection, then)

    return asyncio.run(talk())


async def _status(connection: RawConnection, request: bytes) -> int:
    await connection.send(request)
    answer = await connection.answer()
    assert answer.headers["x-request-id"].startswith("req_")
    if answer.status not in (202, 207):
        assert answer.json["error"]["code"] in {
            "invalid_body", "missing_actor", "forbidden_event_type", "worker_not_found",
            "batch_too_large",
        }  # fmt: skip
    return answer.status


@given(body=st.binary(max_size=300) | PIECES, path=PATHS)
@BOUNDED
def test_garbage_is_refused(server: Addresses, tenant: Tenant, body: bytes, path: str) -> None:
    good = post(tenant.key, SAMPLES[path], path)
    assert send_twice(server.http, post(tenant.key, body, path), good) == (400, 202)


@given(document=damaged())
@BOUNDED
def test_a_damaged_body_is_answered(
    server: Addresses, tenant: Tenant, document: tuple[str, bytes]
) -> None:
    path, body = document
    good = post(tenant.key, SAMPLES[path], path)
    first, second = send_twice(server.http, post(tenant.key, body, path), good)
    assert first in (202, 207, 400, 403, 404)
    assert second == 202


@given(
    headers=st.dictionaries(
        st.sampled_from(["Content_Type", "Content_Encoding", "Idempotency_Key", "Authorization"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")),
        min_size=1,
    )
)
@BOUNDED
def test_odd_headers_are_answered(
    server: Addresses, tenant: Tenant, headers: dict[str, str]
) -> None:
    request = post(tenant.key, SAMPLES[EVENTS], **headers)

    async def talk() -> int:
        async with connect(server.http) as connection:
            await connection.send(request)
            return (await connection.answer()).status

    assert asyncio.run(talk()) in (202, 400, 401)
