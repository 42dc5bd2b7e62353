"""The command line and the management API do the same, say the same and refuse the same."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from core.admin import erasure, removal
from tests.service.cli.command import Result, run_here
from tests.support.operator_drivers import (
    CommandLine,
    ManagementApi,
    OperatorDriver,
    RefusedError,
)
from tests.support.operator_tokens import make_operator
from tests.support.running_service import Addresses
from tests.support.tenant import event, snapshot
from tests.support.waiting import IN_FORCE_SECONDS, wait_until

NOTHING = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

_numbers = itertools.count(1)


@pytest.fixture
def hands(
    server: Addresses, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[CommandLine, ManagementApi]]:
    """Both, on the shared service and its database."""
    for name in os.environ:
        if name.startswith("WEPEOPLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", server.database_url)
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0.0)
    _, token = asyncio.run(make_operator(server.database_url))
    api = ManagementApi(server.http, token)
    yield CommandLine(lambda *arguments: Result(*run_here(monkeypatch, *arguments))), api
    api.close()


@pytest.fixture(params=["command line", "api"])
def hand(
    request: pytest.FixtureRequest, hands: tuple[CommandLine, ManagementApi]
) -> OperatorDriver:
    """Each in turn."""
    command_line, api = hands
    return command_line if request.param == "command line" else api


@pytest.fixture
def name() -> str:
    """A name that no organization has."""
    return f"Agreed {next(_numbers)} {time.time_ns()}"


def send(server: Addresses, key: str, *events: dict[str, Any]) -> httpx.Response:
    """Post events."""
    return httpx.post(
        f"{server.http}/api/v1/ingest/events",
        json={"events": [event(), *events][bool(events) :]},
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    )


def without(record: dict[str, Any], *members: str) -> dict[str, Any]:
    """A record but for these members; each of them is there."""
    assert set(members) <= set(record)
    return {name: value for name, value in record.items() if name not in members}


def test_organizations(hand: OperatorDriver, name: str) -> None:
    made = hand.create_organization(name, 100)
    org = made["id"]
    assert without(made, "id", "createdAt", *({"cell"} & made.keys())) == {
        "name": name,
        "developerApi": True,
        "monthlyQuota": 100,
        "requestsPerSecond": 600,
    }
    assert made in hand.organizations()
    assert hand.organization(org) == made
    changed = hand.update_organization(org, monthlyQuota=None, developerApi=False)
    assert changed == {**made, "monthlyQuota": None, "developerApi": False}
    renamed = hand.update_organization(org, name=f"{name} b", requestsPerSecond=7)
    assert renamed == {**changed, "name": f"{name} b", "requestsPerSecond": 7}
    counted = hand.remove_organization(org, f"{name} b", dry_run=True)
    assert (counted["organization"], counted["removed"]) == (f"{name} b", False)
    gone = hand.remove_organization(org, f"{name} b")
    assert gone == {**counted, "removed": True}
    with pytest.raises(RefusedError, match="there is no organization"):
        hand.organization(org)


def test_what_is_refused(hand: OperatorDriver, name: str) -> None:
    org = hand.create_organization(name)["id"]
    app = hand.create_app(org, "hub", "Hub", "deal.won")["id"]
    hand.create_worker(org, "Alex", "alex@b.c")
    for refused, reason, is_invalid in (
        (lambda: hand.create_organization(name), "exists already", False),
        (lambda: hand.create_organization(" x"), "white space", True),
        (lambda: hand.create_organization("x" * 201), "must be 1 to 200 characters", True),
        (lambda: hand.create_organization(f"{name} c", 10**18), "must be 0 to", True),
        (lambda: hand.update_organization(org, requestsPerSecond=1_000_001), "rate limit", True),
        (lambda: hand.update_organization(org, requestsPerSecond=0), "rate", True),
        (lambda: hand.update_organization(org), "nothing to change", True),
        (lambda: hand.organization(f"org_{NOTHING}"), "there is no organization", False),
        (lambda: hand.apps("nobody"), "nobody", False),
        (lambda: hand.create_app(org, "hub", "Again"), "an app 'hub' exists already", False),
        (lambda: hand.create_app(org, "Hub", "Again"), "the slug 'Hub' must be", True),
        (lambda: hand.create_app(org, "b", "B", "a b"), "event type 'a b'", True),
        (lambda: hand.deny(org, app, "deal.lost"), "nothing was changed: deal.lost", False),
        (lambda: hand.allow(org, f"app_{NOTHING}", "deal.won"), "there is no app", False),
        (lambda: hand.key(org, f"key_{NOTHING}"), "there is no key", False),
        (lambda: hand.create_worker(org, "A", "ALEX@b.c"), "exists already", False),
        (lambda: hand.create_worker(org, "A", "nowhere"), "e-mail 'nowhere'", True),
        (lambda: hand.rejections(org, code="key_revokd"), "did you mean key_revoked", True),
    ):
        with pytest.raises(RefusedError, match=reason) as caught:
            refused()
        assert caught.value.is_invalid is is_invalid, reason


def test_apps_and_what_they_may_send(hand: OperatorDriver, name: str, server: Addresses) -> None:
    org = hand.create_organization(name)["id"]
    made = [hand.create_app(org, slug, slug.upper(), "deal.won") for slug in ("c", "a", "b")]
    assert without(made[0], "id", "createdAt") == {
        "organizationId": org,
        "slug": "c",
        "name": "C",
        "source": "custom:c",
        "allowedEventTypes": ["deal.won"],
    }
    assert hand.apps(org) == [made[1], made[2], made[0]]
    app = made[0]["id"]
    key = hand.create_key(org, app)["key"]
    assert send(server, key).json()["error"]["code"] == "forbidden_event_type"
    allowed = hand.allow(org, app, "ticket.resolved", "a.b")
    assert allowed == {**made[0], "allowedEventTypes": ["a.b", "deal.won", "ticket.resolved"]}
    wait_until(
        lambda: send(server, key).status_code == 202, "it is allowed", seconds=IN_FORCE_SECONDS
    )
    denied = hand.deny(org, app, "ticket.resolved", "a.b")
    assert denied == made[0]
    wait_until(
        lambda: send(server, key).status_code == 403, "it is denied", seconds=IN_FORCE_SECONDS
    )
    counted = hand.remove_app(org, app, "c", dry_run=True)
    assert (counted["app"], counted["workingKeys"]) == (f"{name}/c", 1)
    assert hand.remove_app(org, app, "c") == {**counted, "removed": True}
    assert hand.apps(org) == made[1:]


def test_keys(hand: OperatorDriver, name: str, server: Addresses) -> None:
    org = hand.create_organization(name)["id"]
    app = hand.create_app(org, "hub", "Hub", "ticket.resolved")["id"]
    made = hand.create_key(org, app, 30)
    assert without(made, "id", "key", "createdAt") == {
        "appId": app,
        "organizationId": org,
        "endsIn": made["key"][-4:],
        "state": "active",
        "requestsPerSecond": 30,
        "expiresAt": None,
        "revokedAt": None,
        "lastUsedAt": None,
    }
    assert hand.key(org, made["id"]) == without(made, "key")
    assert send(server, made["key"]).status_code == 202

    rotated = hand.rotate_key(org, made["id"])
    assert (rotated["old"]["id"], rotated["requestsPerSecond"]) == (made["id"], 30)
    assert rotated["old"]["expiresAt"] is not None
    for key in (made, rotated):
        assert send(server, key["key"]).status_code == 202
    listed = hand.keys(org, app)
    assert [key["id"] for key in listed] == [made["id"], rotated["id"]]

    revoked = hand.revoke_key(org, rotated["id"])
    assert revoked["state"] == "revoked"
    wait_until(
        lambda: send(server, rotated["key"]).json().get("error", {}).get("code") == "key_revoked",
        "the key is refused",
        seconds=IN_FORCE_SECONDS,
    )
    assert send(server, made["key"]).status_code == 202
    again = hand.revoke_key(org, rotated["id"])
    assert again["revokedAt"] == revoked["revokedAt"]
    with pytest.raises(RefusedError, match="is revoked"):
        hand.rotate_key(org, rotated["id"])


def test_workers(
    hand: OperatorDriver, name: str, server: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "REJECTIONS_SECONDS", 0.0)
    org = hand.create_organization(name)["id"]
    app = hand.create_app(org, "hub", "Hub", "ticket.resolved")["id"]
    key = hand.create_key(org, app)["key"]
    assert send(server, key, event("a", metadata={"who": "A"}), event("b")).status_code == 202
    first, second = sorted(hand.workers(org), key=lambda one: str(one["displayName"]))
    renamed = hand.rename_worker(org, first["id"], "Alex")
    assert renamed == {**first, "displayName": "Alex"}
    merged = hand.merge_worker(org, second["id"], "b", first["id"])
    assert merged == {
        "from": second["id"],
        "into": first["id"],
        "merged": True,
        "links": 1,
        "events": 1,
        "snapshots": 0,
    }
    shown = hand.worker(org, first["id"])
    assert (shown["events"], shown["allEventsCounted"]) == (2, True)
    assert [link["externalId"] for link in shown["links"]] == ["a", "b"]
    assert hand.worker(org, second["id"]) == shown
    erased = hand.erase_worker(org, first["id"], "Alex")
    assert (erased["worker"], erased["erased"], erased["links"]) == (first["id"], True, 2)
    assert erased["eventContents"] == 1
    assert hand.workers(org) == []
    assert hand.worker(org, first["id"])["displayName"] == "erased worker"
    with pytest.raises(RefusedError):
        hand.rename_worker(org, first["id"], "Alex")


def test_what_came_in_reads_the_same(
    hands: tuple[CommandLine, ManagementApi], name: str, server: Addresses
) -> None:
    command_line, api = hands
    org = command_line.create_organization(name, 100)["id"]
    app = api.create_app(org, "hub", "Hub", "ticket.resolved")["id"]
    key = api.create_key(org, app)["key"]
    for number in range(5):
        exact = {"big": 2**64, "text": "ä"}
        assert send(server, key, event(f"u{number % 2}", metadata=exact)).status_code == 202
    refused = send(server, key, event(), event(eventType="deal.won"), event(duration=-1))
    assert refused.status_code == 207
    for number in range(3):
        httpx.post(
            f"{server.http}/api/v1/ingest/snapshots",
            json=snapshot("u0", metrics={"open": number}),
            headers={"Authorization": f"Bearer {key}"},
        )
    wait_until(lambda: len(api.rejections(org)) == 2, "the rejections are written")
    wait_until(
        lambda: sum(m["accepted"] for m in api.usage(org, 60)["minutes"]) == 9,
        "the traffic is written",
    )
    for hand in hands:
        assert len(hand.events(org)) == 6
        assert len(hand.snapshots(org)) == 3
    people = api.workers(org)
    assert len(people) == 3
    assert sorted(command_line.workers(org), key=lambda one: str(one["id"])) == people
    worker = next(one["id"] for one in people if one["displayName"] == "u0")
    for read in ("events", "snapshots", "cards", "rejections", "audit"):
        shown = getattr(api, read)(org)
        assert shown, read
        assert getattr(command_line, read)(org) == shown
    for only in ({"app": app}, {"worker": worker}):
        assert command_line.events(org, **only) == api.events(org, **only)
    assert len(api.events(org, worker=worker)) == 3
    assert command_line.cards(org, worker=worker) == api.cards(org, worker=worker)
    assert api.rejections(org, code="forbidden_event_type", app=app)[0]["index"] == 1
    request_id = refused.json()["requestId"]
    assert command_line.rejections(org, request=request_id) == api.rejections(
        org, request=request_id
    )
    assert command_line.usage(org, 60) == api.usage(org, 60)


def test_the_audit_log_has_the_same_of_both(
    hands: tuple[CommandLine, ManagementApi], name: str
) -> None:
    logs = []
    both: tuple[OperatorDriver, ...] = hands
    for number, hand in enumerate(both):
        org = hand.create_organization(f"{name} {number}", 5)["id"]
        hand.update_organization(org, monthlyQuota=6)
        app = hand.create_app(org, "hub", "Hub", "deal.won")["id"]
        hand.allow(org, app, "a.b")
        hand.deny(org, app, "a.b")
        key = hand.create_key(org, app)["id"]
        hand.rotate_key(org, key)
        hand.revoke_key(org, key)
        hand.create_worker(org, "Alex")
        hand.remove_app(org, app, "hub")
        hand.remove_organization(org, f"{name} {number}")
        entries = hand.audit(org)
        assert {entry["hand"] for entry in entries} == {hand.hand}
        assert all(entry["actor"] and entry["done"] for entry in entries)
        assert {entry["organizationId"] for entry in entries} == {org}
        logs.append([(entry["action"], _shape(entry)) for entry in entries])
    assert logs[0] == logs[1]
    assert len(logs[0]) >= 10


def _shape(entry: dict[str, Any]) -> list[dict[str, Any] | None]:
    """The values before and after, but for ids, times and ends of keys; names without number."""
    unlike = {"endsIn", "expiresAt", "revokedAt", "replacedBy"}
    return [
        values
        and {
            member: str(value)[:-2] if member == "name" and str(value)[-2:-1] == " " else value
            for member, value in values.items()
            if member not in unlike
        }
        for values in (entry["before"], entry["after"])
    ]
