"""Bodies that are not JSON, or not the document that is wanted."""

from __future__ import annotations

import json

import pytest

from tests.support.raw_http import EVENTS, SNAPSHOTS, ask, check_error, post
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, event, snapshot

pytestmark = pytest.mark.anyio

ONE = json.dumps({"events": [event()]}).encode()


async def accepted(server: Addresses, request: bytes) -> bool:
    answer = await ask(server.http, request)
    return (answer.status, answer.json.get("accepted")) == (202, 1)


NOT_JSON = [
    b"",
    b" ",
    b"\n",
    b"{",
    b'{"events": [',
    ONE[:-1],
    ONE[:-3],
    ONE + b"x",
    ONE + ONE,
    ONE.replace(b'"events"', b"events"),
    ONE.replace(b'"', b"'"),
    ONE.replace(b"]}", b"],}"),
    ONE.replace(b"[{", b"[,{"),
    b"// comment\n" + ONE,
    b"events=1",
    b"<events/>",
    b"\x00",
    b"\x80",
    b"\xef\xbb\xbf" + ONE,
    ONE.decode().encode("utf-16"),
    ONE.decode().encode("utf-16-le"),
    ONE.decode().encode("utf-32"),
    ONE.replace(b"crm-user", b"crm\xff"),
    ONE.replace(b"crm-user", b"crm\xed\xa0\x80"),
    ONE.replace(b"crm-user", b"crm\xc0\xaf"),
    ONE.replace(b"crm-user", b"crm\n"),
    ONE.replace(b"crm-user", b"crm\\x"),
    ONE.replace(b'{"events', b'{"ignored": "\xff", "events'),
    ONE.replace(b'{"events', b'{"ignored": flase, "events'),
    ONE.replace(b'{"events', b'{"ignored": NaN, "events'),
    ONE.replace(b'{"events', b'{"ignored": [1 2], "events'),
    ONE.replace(b'{"events', b'{"ignored": ' + b"[" * 10_000 + b"]" * 10_000 + b', "events'),
    b'{"events": [[1 2], ' + ONE[12:],
    b'{"events": [{"a": flase}, ' + ONE[12:],
    b'{"events": [NaN, 01, ' + ONE[12:],
    b'{"events": [NaN "a", ' + ONE[12:],
    b'{"events": [NaN, ' + ONE[12:-1] + b"]",
    b"[" * 500_000,
    b'{"events": ' + b"[" * 500_000,
    b'{"events": [' + b'{"a":' * 100_000,
]
NOT_AN_OBJECT = [b"null", b"true", b"0", b"-1.5e3", b'"events"', b"[]", b"[{}]", b"[" + ONE + b"]"]
NO_EVENTS = [b"{}", b'{"event": []}', b'{"Events": [{}]}', b'{"a": NaN}', b'{"": 0}']
EVENTS_NOT_A_LIST = [b"null", b"{}", b'"[]"', b"0", b"true", b'{"0": {}}', b"NaN", b'[],"events":1']


def label(value: object) -> str:
    return repr(value)[:40]


async def refused(server: Addresses, tenant: Tenant, body: bytes, path: str = EVENTS) -> str:
    answer = await ask(server.http, post(tenant.key, body, path))
    return check_error(answer, 400, "invalid_body")


class TestJson:
    @pytest.mark.parametrize("body", NOT_JSON, ids=label)
    async def test_what_is_not_json_is_refused(
        self, server: Addresses, tenant: Tenant, body: bytes
    ) -> None:
        message = await refused(server, tenant, body)
        assert "body" in message
        assert "JSON" in message or "UTF-8" in message
        assert await tenant.events() == []

    @pytest.mark.parametrize("body", NOT_AN_OBJECT, ids=label)
    @pytest.mark.parametrize("path", [EVENTS, SNAPSHOTS])
    async def test_the_top_level_is_an_object(
        self, server: Addresses, tenant: Tenant, path: str, body: bytes
    ) -> None:
        assert "must be a" in await refused(server, tenant, body, path)

    @pytest.mark.parametrize("body", NO_EVENTS, ids=label)
    async def test_events_are_required(
        self, server: Addresses, tenant: Tenant, body: bytes
    ) -> None:
        await refused(server, tenant, body)

    @pytest.mark.parametrize("value", EVENTS_NOT_A_LIST, ids=label)
    async def test_events_are_an_array(
        self, server: Addresses, tenant: Tenant, value: bytes
    ) -> None:
        await refused(server, tenant, b'{"events": ' + value + b"}")

    async def test_an_empty_list_of_events_is_refused(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        for body in (b'{"events": []}', b'{"events": [ ]}', b'{"events": [1], "events": []}'):
            assert "events" in await refused(server, tenant, body)

    async def test_white_space_and_member_order_do_not_matter(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        body = b' \r\n\t{ "z" : 1 , "events" : [ ' + json.dumps(event()).encode() + b" ] } \n"
        assert await accepted(server, post(tenant.key, body))

    async def test_escaped_member_names_are_names(self, server: Addresses, tenant: Tenant) -> None:
        body = ONE.replace(b"events", b"\\u0065vents").replace(b"actor", b"\\u0061ctor")
        assert await accepted(server, post(tenant.key, body))
        odd = body.replace(b"]}", b', {"a": NaN}]}')
        assert (await ask(server.http, post(tenant.key, odd))).status == 207

    async def test_of_duplicate_events_the_last_counts(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        for first in (b"1", b"null", b"[]", b"[1]", b'[{"a": 1}]', b'"x"', b"{}"):
            body = ONE.replace(b'{"events', b'{"events": ' + first + b', "events')
            assert await accepted(server, post(tenant.key, body)), first
        assert "array" in await refused(server, tenant, ONE[:-1] + b', "events": 1}')

    @pytest.mark.parametrize("body", NOT_JSON, ids=label)
    async def test_a_snapshot_that_is_not_json_is_refused(
        self, server: Addresses, tenant: Tenant, body: bytes
    ) -> None:
        await refused(server, tenant, body, SNAPSHOTS)

    async def test_a_snapshot_may_have_unknown_members(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        body = json.dumps(snapshot(events=[1], more={"a": None})).encode()
        assert (await ask(server.http, post(tenant.key, body, SNAPSHOTS))).status == 202

    async def test_a_hundred_thousand_tiny_elements_are_too_many(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        for unit in (b"1", b"{}", b"null", b'""', b"NaN"):
            body = b'{"events": [' + b",".join([unit] * 100_000) + b"]}"
            answer = await ask(server.http, post(tenant.key, body))
            check_error(answer, 413, "batch_too_large")
