"""Snapshots: the forms of metrics, the card and its history, and errors with their own status."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from core import ids
from tests.behaviour.examples import BROKEN, MAX_JSON_BYTES, NOT_TYPES, TYPES, json_of_size
from tests.conftest import MakeTenant
from tests.support.driver import Driver
from tests.support.tenant import Tenant, snapshot

pytestmark = pytest.mark.anyio


def at(minute: int, **members: Any) -> dict[str, Any]:
    """A snapshot of that minute, which is also its metric."""
    stamp = f"2026-04-19T12:{minute:02}:00Z"
    return snapshot(**{"timestamp": stamp, "metrics": {"minute": minute}, **members})


async def minutes(tenant: Tenant) -> tuple[list[int], list[int]]:
    """The minutes of the current cards, and of the history in order of arrival."""
    cards, history = await tenant.cards(), await tenant.history()
    return (
        [json.loads(row["metrics"])["minute"] for row in cards],
        [json.loads(row["metrics"])["minute"] for row in history],
    )


async def test_the_answer_names_the_worker(driver: Driver, tenant: Tenant) -> None:
    reply = await driver.snapshot(
        tenant.key, snapshot(actor={"email": "alex@example.com", "displayName": "Alex Chen"})
    )
    (worker,) = await tenant.workers()
    assert reply.body == {
        "requestId": reply.request_id,
        "ok": True,
        "snapshotType": "tickets_open",
        "worker": {"id": ids.text(ids.WORKER, worker["id"]), "displayName": "Alex Chen"},
    }


async def test_the_answer_names_a_known_worker_as_it_is_known(
    driver: Driver, tenant: Tenant
) -> None:
    await driver.snapshot(tenant.key, snapshot("42", metrics={}))
    actor = {"externalId": "42", "displayName": "Alex Chen"}
    reply = await driver.snapshot(tenant.key, snapshot(actor=actor))
    assert reply.body["worker"]["displayName"] == "42"


METRICS = [
    {},
    {"open": 12},
    {"ratio": -0.5, "big": 10**300, "small": 5e-324, "zero": 0},
    {"label": "", "mood": "x" * 200, "faces": "\N{GRINNING FACE}" * 200},
    {"a": {"value": 1}, "b": {"value": 0.5, "unit": "ratio"}},
    {"a": {"value": 1, "unit": "score", "label": "x" * 200, "since": "April"}},
    {unit: {"value": 1, "unit": unit} for unit in ("count", "minutes", "ratio", "percentage")},
    {"": 1, "Zoë \N{GRINNING FACE}": 1, "a.b": 1},
]


@pytest.mark.parametrize("metrics", METRICS)
async def test_metrics(driver: Driver, tenant: Tenant, metrics: dict[str, Any]) -> None:
    reply = await driver.snapshot(tenant.key, snapshot(metrics=metrics, metadata={"why": 1e-7}))
    assert reply.code is None, reply.message
    (card,) = await tenant.cards()
    assert json.loads(card["metrics"]) == metrics
    assert json.loads(card["metadata"]) == {"why": 1e-7}


@pytest.mark.parametrize(
    ("metrics", "path"),
    [
        ([], "metrics"),
        ("many", "metrics"),
        (None, "metrics"),
        (..., "metrics"),
        ({"m": None}, "metrics.m"),
        ({"m": True}, "metrics.m"),
        ({"m": [1]}, "metrics.m"),
        ({"m": "x" * 201}, "metrics.m"),
        ({"m": "nul\0"}, "metrics"),
        ({"m": 10**309}, "metrics"),
        ({"m": {}}, "metrics.m.value"),
        ({"m": {"unit": "count"}}, "metrics.m.value"),
        ({"m": {"value": "1"}}, "metrics.m.value"),
        ({"m": {"value": True}}, "metrics.m.value"),
        ({"m": {"value": None}}, "metrics.m.value"),
        ({"m": {"value": 1, "unit": "hours"}}, "metrics.m.unit"),
        ({"m": {"value": 1, "unit": "Count"}}, "metrics.m.unit"),
        ({"m": {"value": 1, "unit": None}}, "metrics.m.unit"),
        ({"m": {"value": 1, "unit": ["count"]}}, "metrics.m.unit"),
        ({"m": {"value": 1, "label": "x" * 201}}, "metrics.m.label"),
        ({"m": {"value": 1, "label": 5}}, "metrics.m.label"),
        ({"ok": 1, "m": None}, "metrics.m"),
    ],
)
async def test_no_metrics(driver: Driver, tenant: Tenant, metrics: object, path: str) -> None:
    reply = await driver.snapshot(tenant.key, snapshot(metrics=metrics))
    assert reply.code == "invalid_body"
    assert reply.message.startswith(f"{path}: ")
    assert await tenant.history() == []
    assert await tenant.workers() == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
async def test_metrics_that_are_no_json_or_no_unicode(
    driver: Driver, tenant: Tenant, value: object
) -> None:
    reply = await driver.snapshot(tenant.key, snapshot(metrics={"m": value}))
    assert reply.code == "invalid_body"


@pytest.mark.parametrize("member", ["metrics", "metadata"])
async def test_objects_of_16384_bytes_and_of_one_more(
    driver: Driver, tenant: Tenant, member: str
) -> None:
    def sized(size: int) -> dict[str, Any]:
        if member == "metadata":
            return json_of_size(size, "é")
        value: dict[str, Any] = {f"m{index:03}": "x" * 149 for index in range(100)}
        rest = size - len(json.dumps(value, separators=(",", ":")))
        return {**value, "n" * (rest - len(',"":1')): 1}

    fits, over = ({member: sized(size)} for size in (MAX_JSON_BYTES, MAX_JSON_BYTES + 1))
    assert (await driver.snapshot(tenant.key, snapshot() | fits)).code is None
    reply = await driver.snapshot(tenant.key, snapshot() | over)
    assert reply.code == "invalid_body"
    assert reply.message.startswith(f"{member}: must be at most 16384 bytes")


@pytest.mark.parametrize("value", TYPES)
async def test_snapshot_types_need_no_whitelisting(
    driver: Driver, tenant: Tenant, value: str
) -> None:
    reply = await driver.snapshot(tenant.key, snapshot(snapshotType=value))
    assert reply.body["snapshotType"] == value


@pytest.mark.parametrize("value", NOT_TYPES)
async def test_no_snapshot_types(driver: Driver, tenant: Tenant, value: str) -> None:
    reply = await driver.snapshot(tenant.key, snapshot(snapshotType=value))
    assert reply.code == "invalid_body"
    assert reply.message.startswith("snapshotType: ")


@pytest.mark.parametrize(
    ("code", "members"),
    [
        ("invalid_body", {"timestamp": "yesterday", "actor": {}}),
        ("invalid_body", {"actor": {"externalId": ""}}),
        ("invalid_body", {"snapshotType": 5}),
        ("missing_actor", {"actor": {}}),
        ("missing_actor", {"actor": ...}),
        ("worker_not_found", BROKEN["worker_not_found"]),
        ("quota_exceeded", {}),
    ],
)
async def test_every_failure_is_an_error_of_its_own(
    driver: Driver, new_tenant: MakeTenant, code: str, members: dict[str, Any]
) -> None:
    tenant = await new_tenant(monthly_quota=0)
    reply = await driver.snapshot(tenant.key, snapshot(**members))
    assert reply.code == code
    assert list(reply.rejected) == []
    assert await tenant.history() == []
    assert await tenant.workers() == []
    assert await tenant.used() == 0


async def test_all_that_is_wrong_is_listed(driver: Driver, tenant: Tenant) -> None:
    wrong = snapshot(snapshotType="!", metrics={"a": None, "b": {"value": "1"}}, metadata=[])
    reply = await driver.snapshot(tenant.key, wrong)
    for path in ("snapshotType", "metrics.a", "metrics.b.value", "metadata"):
        assert f"{path}: must" in reply.message


async def test_a_newer_snapshot_replaces_the_card_and_history_keeps_both(
    driver: Driver, tenant: Tenant
) -> None:
    await driver.snapshot(tenant.key, at(1))
    await driver.snapshot(tenant.key, at(2))
    assert await minutes(tenant) == ([2], [1, 2])


async def test_a_late_older_snapshot_joins_the_history_only(driver: Driver, tenant: Tenant) -> None:
    await driver.snapshot(tenant.key, at(2))
    reply = await driver.snapshot(tenant.key, at(1))
    assert reply.body["ok"] is True
    assert await minutes(tenant) == ([2], [2, 1])


async def test_of_equally_old_snapshots_the_later_arrival_is_the_card(
    driver: Driver, tenant: Tenant
) -> None:
    for metric in (1, 2, 3):
        await driver.snapshot(tenant.key, {**at(5), "metrics": {"minute": metric}})
    assert await minutes(tenant) == ([3], [1, 2, 3])


async def test_a_timestamp_of_the_future_pins_no_card(driver: Driver, tenant: Tenant) -> None:
    await driver.snapshot(tenant.key, at(1, timestamp="2999-01-01T00:00:00Z"))
    await driver.snapshot(tenant.key, at(2))  # of the past
    assert (await minutes(tenant))[0] == [1]
    await driver.snapshot(tenant.key, at(3, timestamp=...))
    assert (await minutes(tenant))[0] == [3]
    await driver.snapshot(tenant.key, at(4, timestamp="2999-01-01T00:00:00Z"))
    await driver.snapshot(tenant.key, at(5, timestamp="2998-01-01T00:00:00Z"))
    assert await minutes(tenant) == ([5], [1, 2, 3, 4, 5])


async def test_times_are_compared_as_instants(driver: Driver, tenant: Tenant) -> None:
    await driver.snapshot(tenant.key, at(5))
    earlier = {**at(4), "timestamp": "2026-04-19T14:04:59.999999+02:00"}
    await driver.snapshot(tenant.key, earlier)
    assert await minutes(tenant) == ([5], [5, 4])


async def test_cards_are_of_one_app_worker_and_type(driver: Driver, tenant: Tenant) -> None:
    other = await tenant.another_app()
    actor = {"email": "alex@example.com"}
    await driver.snapshot(tenant.key, at(1, actor=actor))
    await driver.snapshot(other.key, at(2, actor=actor))
    await driver.snapshot(tenant.key, at(3, actor={"email": "sam@example.com"}))
    await driver.snapshot(tenant.key, at(4, actor=actor, snapshotType="tickets_closed"))
    await driver.snapshot(tenant.key, at(5, actor=actor))
    cards, history = await minutes(tenant)
    assert sorted(cards) == [2, 3, 4, 5]
    assert history == [1, 2, 3, 4, 5]


async def test_of_simultaneous_snapshots_the_newest_is_the_card(
    replicas: tuple[Driver, Driver], tenant: Tenant
) -> None:
    order = list(range(40))
    random.Random(7).shuffle(order)
    replies = await asyncio.gather(
        *(replicas[minute % 2].snapshot(tenant.key, at(minute)) for minute in order)
    )
    assert {reply.code for reply in replies} == {None}
    cards, history = await minutes(tenant)
    assert cards == [39]
    assert sorted(history) == sorted(order)
    assert len(await tenant.workers()) == 1


async def test_a_snapshot_counts_as_one_event_of_the_quota(
    driver: Driver, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=2)
    codes = [(await driver.snapshot(tenant.key, at(minute))).code for minute in range(3)]
    assert codes == [None, None, "quota_exceeded"]
    assert await tenant.used() == 2
    assert await minutes(tenant) == ([1], [0, 1])
