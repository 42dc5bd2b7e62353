"""The limits of an event's members, at their exact edges, and how values are kept."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.behaviour.examples import (
    MAX_JSON_BYTES,
    NAMES,
    NOT_NAMES,
    NOT_TYPES,
    TYPES,
    compact_bytes,
    json_of_size,
)
from tests.conftest import MakeTenant
from tests.support.driver import Driver
from tests.support.http_driver import HttpDriver
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio


async def refused(driver: Driver, tenant: Tenant, path: str, **members: Any) -> str:
    """Send a bad event between two good ones; the message about it, which must name the path."""
    reply = await driver.ingest(tenant.key, [event(), event(**members), event()])
    assert len(reply.accepted) == 2
    assert [(one.index, one.code) for one in reply.rejected] == [(1, "invalid_body")]
    message = reply.rejected[0].message
    assert message.startswith(f"events[1].{path}: ")
    return message


async def stored(driver: Driver, tenant: Tenant, **members: Any) -> dict[str, Any]:
    """Send an event, which must be accepted; the row that is stored of it."""
    reply = await driver.ingest(tenant.key, [event(**members)])
    assert reply.code is None, reply.message
    return (await tenant.events())[-1]


@pytest.mark.parametrize("value", TYPES)
async def test_event_types(driver: Driver, new_tenant: MakeTenant, value: str) -> None:
    tenant = await new_tenant(event_types=[value])
    assert (await stored(driver, tenant, eventType=value))["event_type"] == value


@pytest.mark.parametrize("value", NOT_TYPES)
async def test_no_event_types(driver: Driver, tenant: Tenant, value: str) -> None:
    message = await refused(driver, tenant, "eventType", eventType=value)
    assert "3 to 64 characters" in message or "U+0000" in message


@pytest.mark.parametrize(
    "value",
    [
        *("communication", "project_management", "code", "calendar"),
        *("design", "ai_tools", "other"),
    ],
)
async def test_the_seven_categories(driver: Driver, tenant: Tenant, value: str) -> None:
    assert (await stored(driver, tenant, category=value))["category"] == value


@pytest.mark.parametrize("value", ["", "Code", "code ", "ai-tools", "sales"])
async def test_no_categories(driver: Driver, tenant: Tenant, value: str) -> None:
    await refused(driver, tenant, "category", category=value)


@pytest.mark.parametrize("value", [0, 1, 86_399, 86_400, 240.0, -0.0])
async def test_durations(driver: Driver, tenant: Tenant, value: float) -> None:
    assert (await stored(driver, tenant, duration=value))["duration_seconds"] == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-1, "at least 0"),
        (86_401, "at most 86400"),
        (2**31, "at most 86400"),
        (-(2**63), "at least 0"),
        (10**30, "at most 86400"),
        (1e300, "at most 86400"),
        (1.5, "whole number"),
        (1e-9, "whole number"),
        ("240", "integer"),
        (True, "integer"),
        (None, "integer"),
        ([240], "integer"),
    ],
)
async def test_no_durations(driver: Driver, tenant: Tenant, value: object, reason: str) -> None:
    assert reason in await refused(driver, tenant, "duration", duration=value)


@pytest.mark.parametrize("member", ["externalId", "displayName"])
@pytest.mark.parametrize("value", NAMES)
async def test_names(driver: Driver, tenant: Tenant, member: str, value: str) -> None:
    await stored(driver, tenant, actor={"externalId": "someone", member: value})
    (worker,) = await tenant.workers()
    assert worker["display_name"] == value


@pytest.mark.parametrize("member", ["externalId", "displayName"])
@pytest.mark.parametrize("value", [*NOT_NAMES, 7, None])
async def test_no_names(driver: Driver, tenant: Tenant, member: str, value: object) -> None:
    actor = {"email": "alex@example.com", member: value}
    await refused(driver, tenant, f"actor.{member}", actor=actor)


@pytest.mark.parametrize("value", ["a@b", "x" * 64 + "@" + "y" * 255, "Zoë@münchen.example"])
async def test_emails(driver: Driver, tenant: Tenant, value: str) -> None:
    await stored(driver, tenant, actor={"email": value})
    (worker,) = await tenant.workers()
    assert worker["email"] == value


@pytest.mark.parametrize("value", ["", "alex", "@example.com", "alex@", "x" * 319 + "@y", "a@\0"])
async def test_no_emails(driver: Driver, tenant: Tenant, value: str) -> None:
    await refused(driver, tenant, "actor.email", actor={"email": value})


@pytest.mark.parametrize("character", ["x", "é", "\N{GRINNING FACE}", '"', "\n", "\u2028"])
async def test_metadata_of_exactly_16384_bytes(
    driver: Driver, tenant: Tenant, character: str
) -> None:
    """White space and escapes, of which the sent text has more, do not count."""
    if character in '"\n':  # two bytes even in compact JSON
        fill = (MAX_JSON_BYTES - compact_bytes({"text": ""})) // 2
        value = {"text": character * fill + "x"}
    else:
        value = json_of_size(MAX_JSON_BYTES, character)
    assert compact_bytes(value) in (MAX_JSON_BYTES, MAX_JSON_BYTES - 1)
    row = await stored(driver, tenant, metadata=value)
    assert json.loads(row["metadata"]) == value


@pytest.mark.parametrize("character", ["x", "é", "\N{GRINNING FACE}"])
async def test_metadata_of_16385_bytes(driver: Driver, tenant: Tenant, character: str) -> None:
    value = json_of_size(MAX_JSON_BYTES + 1, character)
    assert "16384 bytes" in await refused(driver, tenant, "metadata", metadata=value)


NUMBERS = [0, -1, 2**63, 10**300, 12345678901234567890123456789, 0.1, 1e-7, 5e-324, 1.5e308]


async def test_metadata_is_kept_to_the_last_digit(driver: Driver, tenant: Tenant) -> None:
    value = {
        "numbers": NUMBERS,
        "texts": ["", "\u00e9", "e\u0301", "\N{GRINNING FACE}", '"\\\n\t', "\u2028"],
        "words": [True, False, None],
        "": {"nested": [[], {}, [{}]]},
    }
    row = await stored(driver, tenant, metadata=value)
    read = json.loads(row["metadata"], parse_float=Decimal)
    assert [str(number).lower() for number in read.pop("numbers")] == [
        str(Decimal(repr(number))).lower() for number in NUMBERS
    ]
    del value["numbers"]
    assert read == value


@pytest.mark.parametrize(
    "value",
    [
        *([], "text", 5, True, None),
        *({"nul": "\0"}, {"nul\0": 1}, {"deep": [{"nul": "a\0b"}]}),
        *({"number": 10**309}, {"numbers": [-(10**400)]}),
    ],
    ids=repr,
)
async def test_no_metadata(driver: Driver, tenant: Tenant, value: object) -> None:
    await refused(driver, tenant, "metadata", metadata=value)


@pytest.mark.parametrize(
    "members",
    [
        {"metadata": {"surrogate": "\ud800"}},
        {"metadata": {"\udfff": 1}},
        {"metadata": {"surrogates": "\udc00\ud800"}},
        {"actor": {"externalId": "\ud800"}},
        {"actor": {"email": "alex@example.com", "displayName": "\udfff"}},
    ],
    ids=repr,
)
async def test_an_event_that_is_no_unicode_costs_its_neighbours_nothing(
    driver: Driver, tenant: Tenant, members: dict[str, Any]
) -> None:
    reply = await driver.ingest(tenant.key, [event(), event(**members), event()])
    assert len(reply.accepted) == 2
    assert [(one.index, one.code) for one in reply.rejected] == [(1, "invalid_body")]
    assert reply.rejected[0].message.startswith("events[1]")


async def test_nesting_is_bounded_for_the_body_or_for_the_event_in_a_message(
    driver: Driver, tenant: Tenant
) -> None:
    deep: dict[str, Any] = {}
    for _ in range(124):
        deep = {"d": deep}
    assert (await driver.ingest(tenant.key, [event(metadata=deep)])).code is None
    deep = {"d": deep}
    if isinstance(driver, HttpDriver):
        reply = await driver.ingest(tenant.key, [event(), event(metadata=deep)])
        assert reply.code == "invalid_body"
        assert "128 levels" in (reply.message or "")
    else:
        assert "nested" in await refused(driver, tenant, "metadata", metadata=deep)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *(("eventType", 7), ("eventType", ...), ("category", None), ("category", ...)),
        *(("actor", "alex"), ("actor", []), ("actor", None), ("timestamp", 1776600300)),
    ],
)
async def test_members_of_the_wrong_type(
    driver: Driver, tenant: Tenant, member: str, value: object
) -> None:
    await refused(driver, tenant, member, **{member: value})


async def test_unknown_members_are_ignored(driver: Driver, tenant: Tenant) -> None:
    actor = {"externalId": "crm-user-1", "team": "support"}
    row = await stored(driver, tenant, actor=actor, priority={"level": [1]}, source="x")
    assert row["event_type"] == "ticket.resolved"
