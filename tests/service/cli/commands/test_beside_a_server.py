"""``worker``, ``usage``, ``events`` and ``snapshots`` beside a running server."""

from __future__ import annotations

import re
import signal
from typing import Any

import httpx

from tests.service.cli.command import WAIT_SECONDS, Run, send, served
from tests.support.waiting import wait_until


def test_commands_work_beside_a_running_server(run: Run, acme: str) -> None:
    alex = run("worker", "create", "Acme", "--name", "Alex Chen", "--email", "Alex@acme.example")
    assert "Alex Chen" in alex.out
    metadata = {"n": 12345678901234567890123, "text": "é\u001b[31m\n"}
    with served() as (ready, server):
        assert ready["event"] == "ready"
        send_events_and_snapshots(run, ready["http"], acme, metadata)
        check_usage(run)
        check_events(run, metadata)
        check_snapshots(run)

        run("key", "revoke", acme)
        wait_until(
            lambda: send(ready["http"], acme, 1).status_code == 401,
            "the key is revoked",
            seconds=WAIT_SECONDS,
        )
        server.send_signal(signal.SIGTERM)
        assert server.wait(WAIT_SECONDS) == 0
        assert server.stdout is not None
        assert server.stdout.read() == ""  # the ready line is all


def send_events_and_snapshots(run: Run, url: str, key: str, metadata: dict[str, object]) -> None:
    """Send more than the whitelist and the quota of 10 allow, then more with both widened."""
    actor = {"externalId": "crm-user-42", "email": "alex@ACME.example"}
    assert send(url, key, 3, actor=actor, duration=240, metadata=metadata).status_code == 202
    assert send(url, key, 8, eventType="deal.won").status_code == 403
    assert send(url, key, 8).status_code == 207
    snapshot = {"snapshotType": "load", "actor": actor, "metrics": {"open": 0.10}}
    headers = {"Authorization": f"Bearer {key}"}
    refused = httpx.post(f"{url}/api/v1/ingest/snapshots", json=snapshot, headers=headers)
    assert refused.status_code == 402
    run("org", "update", "Acme", "--quota", "100")
    run("app", "allow", "crm-hub", "deal.won")
    wait_until(
        lambda: send(url, key, 1, eventType="deal.won").status_code == 202,
        "the type is allowed",
        seconds=WAIT_SECONDS,
    )
    for number in (1, 2):
        snapshot["metrics"] = {"open": number}
        sent = httpx.post(f"{url}/api/v1/ingest/snapshots", json=snapshot, headers=headers)
        assert sent.status_code == 202


def check_usage(run: Run) -> None:
    wait_until(
        lambda: "quota_exceeded" in run("usage", "Acme", "--json").json()["rejected"],
        "the rejection is counted",
        seconds=WAIT_SECONDS,
    )
    usage = run("usage", "Acme", "--json").json()
    assert (usage["quota"], usage["used"], usage["left"]) == (100, 13, 87)
    assert usage["accepted"] == 13
    assert usage["rejected"]["forbidden_event_type"]["events"] >= 8
    assert usage["rejected"]["quota_exceeded"]["events"] == 1
    assert usage["forecast"] is None  # of an organization that is new
    assert re.search(r"left +87\n", run("usage", "Acme").out)
    wait_until(
        lambda: sum(one["accepted"] for one in minutes(run)) == 13,
        "the traffic is written",
        seconds=WAIT_SECONDS,
    )
    assert sum(one["rejected"] for one in minutes(run)) >= 8 + 1 + 1
    assert {one["app"] for one in minutes(run)} == {"crm-hub"}
    shown = run("usage", "Acme", "--minutes", "60").out
    assert "MINUTE (UTC)" in shown
    assert "crm-hub" in shown
    [key] = run("key", "list", "--json").json()
    assert key["lastUsedAt"] > key["createdAt"]
    assert key["lastUsedAt"][:16].replace("T", " ") in run("key", "list").out
    assert re.search(r"last used \(UTC\) +20", run("key", "show", key["id"]).out)


def minutes(run: Run) -> list[dict[str, Any]]:
    usage: dict[str, Any] = run("usage", "Acme", "--minutes", "60", "--json").json()
    return list(usage["minutes"])


def check_events(run: Run, metadata: dict[str, object]) -> None:
    [worker] = run("worker", "list", "Acme", "--json").json()
    assert (worker["displayName"], worker["email"]) == ("Alex Chen", "Alex@acme.example")
    assert worker["links"] == [{"app": "crm-hub", "externalId": "crm-user-42"}]
    listed = run("events", "Acme", "--json").json()
    assert len(listed) == 11
    assert [event["id"] for event in listed] == sorted(
        (event["id"] for event in listed), reverse=True
    )
    assert listed[0]["eventType"] == "deal.won"
    last = listed[-1]
    assert last["metadata"] == metadata
    assert (last["source"], last["duration"]) == ("custom:crm-hub", 240)
    assert last["worker"] == {"id": worker["id"], "displayName": "Alex Chen"}
    for given in (worker["id"], "ALEX@acme.example", "crm-user-42"):
        found = run("events", "Acme", "--worker", given, "--limit", "2", "--json").json()
        assert [event["id"] for event in found] == [event["id"] for event in listed[:2]]
    table = run("events", "Acme").out
    assert "\x1b" not in table  # a client does not command the terminal
    assert len(table.splitlines()) == 12


def check_snapshots(run: Run) -> None:
    [card] = run("snapshots", "Acme", "--worker", "crm-user-42", "--json").json()
    assert (card["metrics"], card["current"]) == ({"open": 2}, True)
    history = run("snapshots", "Acme", "--history", "--json").json()
    assert [version["metrics"]["open"] for version in history] == [2, 1]
    assert [version["current"] for version in history] == [True, False]
    assert '{"open": 2}' in run("snapshots", "Acme").out
