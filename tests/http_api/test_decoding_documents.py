"""Bodies that are not JSON, or not the document that is wanted."""

from __future__ import annotations

import json

import pytest

from tests.support.raw_http import EVENTS, ONE, SNAPSHOTS, ask, check_error, post
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, event, snapshot

pytestmark = pytest.mark.anyio


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
    ONE.replace(b'"ticket.resolved"', b"NaN"),
    ONE.replace(b"]}", b', {"a": [Infinity]}]}'),
    b"[" * 500_000,
    b'{"events": ' + b"[" * 500_000,
    b'{"events": [' + b'{"a":' * 100_000,
]
NOT_AN_OBJECT = [b"null", b"true", b"0", b"-1.5e3", b'"events"', b"[]", b"[{}]", b"[" + ONE + b"]"]
NO_EVENTS = [b"{}", b'{"event": []}', b'{"Events": [{}]}', b'{"": 0}', b'{"\\ud800": 0}']
EVENTS_NOT_A_LIST = [b"null", b"{}", b'"[]"', b"0", b"true", b'{"0": {}}', b'[],"events":1']


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
        assert any(word in message for word in ("JSON", "UTF-8", "levels"))
        if body:
            assert "(byte " in message
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

    @pytest.mark.parametrize("path", [EVENTS, SNAPSHOTS])
    async def test_levels_are_counted_from_the_root_of_the_document(
        self, server: Addresses, tenant: Tenant, path: str
    ) -> None:
        for where in ("metadata", "x"):
            for levels, is_over in ((128, False), (129, True), (900, True), (20_000, True)):
                above = 3 if path == EVENTS else 1
                inside = levels - above - 1
                value = '{"a":' + "[" * inside + "]" * inside + ',"b":"[[[\\"[["}'
                one = event() if path == EVENTS else snapshot()
                item = json.dumps(one)[:-1] + f', "{where}": {value}}}'
                body = (f'{{"events": [{item}]}}' if path == EVENTS else item).encode()
                if is_over:
                    message = await refused(server, tenant, body, path)
                    assert "128 levels" in message
                    assert f"(byte {body.index(b'[[[') + 128 - above - 1})" in message
                else:
                    assert (await ask(server.http, post(tenant.key, body, path))).status == 202

    async def test_outside_of_the_last_events_only_syntax_and_depth_matter(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        for value in (b"1e999", b'"\\u0000"', b'"\\ud800"', b'{"\\ud800": 1}', b"9" * 400):
            for name in (b"events", b"x", b"\\ud800"):
                body = ONE.replace(b'{"events', b'{"' + name + b'": ' + value + b', "events')
                assert await accepted(server, post(tenant.key, body)), body

    async def test_a_byte_order_mark_is_skipped(self, server: Addresses, tenant: Tenant) -> None:
        assert await accepted(server, post(tenant.key, b"\xef\xbb\xbf" + ONE))
        body = b"\xef\xbb\xbf" + json.dumps(snapshot()).encode()
        assert (await ask(server.http, post(tenant.key, body, SNAPSHOTS))).status == 202

    async def test_white_space_and_member_order_do_not_matter(
        self, server: Addresses, tenant: Tenant
    ) -> None:
        body = b' \r\n\t{ "z" : 1 , "events" : [ ' + json.dumps(event()).encode() + b" ] } \n"
        assert await accepted(server, post(tenant.key, body))

    async def test_escaped_member_names_are_names(self, server: Addresses, tenant: Tenant) -> None:
        body = ONE.replace(b"events", b"\\u0065vents").replace(b"actor", b"\\u0061ctor")
        assert await accepted(server, post(tenant.key, body))
        odd = body.replace(b"]}", b', {"a": "\\u0000"}]}')
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
        for unit in (b"1", b"{}", b"null", b'""', b'"\\ud800"'):
            body = b'{"events": [' + b",".join([unit] * 100_000) + b"]}"
            answer = await ask(server.http, post(tenant.key, body))
            check_error(answer, 413, "batch_too_large")
