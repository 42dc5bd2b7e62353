"""``wepeople-ingest audit``: every change by a command is found, with its maker, and no key."""

from __future__ import annotations

import json
import os
import pwd
import signal

import pytest

from tests.service.cli.command import WAIT_SECONDS, Run, process

MADE = ["org.create", "app.create", "key.create"]


def test_every_change_is_in_the_log_with_its_maker_and_without_a_key(run: Run, acme: str) -> None:
    [key] = run("key", "list", "--json").json()
    changes = [
        ("org", "update", "Acme", "--quota", "20"),
        ("app", "allow", "crm-hub", "deal.won"),
        ("app", "deny", "crm-hub", "deal.won"),
        ("worker", "create", "Acme", "--name", "Alex Chen", "--email", "alex@acme.example"),
        ("key", "revoke", key["id"]),
        ("cells", "add", "north"),
        ("cells", "close", "north"),
        ("cells", "close", "north", "--open"),
    ]
    for change in changes:
        assert run(*change).code == 0
    assert run("app", "deny", "crm-hub", "deal.won").code == 1  # refused
    assert run("org", "update", "Acme", "--quota", "20").code == 0  # as it was
    whole = run("audit", "--json")
    entries = whole.json()[::-1]
    actions = [entry["action"] for entry in entries]
    of_cells = ["cell.add", "cell.close", "cell.open"]
    of_acme = [*MADE, "org.update", "app.allow", "app.deny", "worker.create", "key.revoke"]
    assert actions == of_acme + of_cells
    assert {entry["hand"] for entry in entries} == {"command line"}
    assert entries[0]["actor"].startswith(pwd.getpwuid(os.getuid()).pw_name)
    assert all(entry["done"] for entry in entries)
    updated = entries[actions.index("org.update")]
    assert (updated["before"]["monthlyQuota"], updated["after"]["monthlyQuota"]) == (10, 20)
    allowed = entries[actions.index("app.allow")]
    assert allowed["before"] == {"allowedEventTypes": ["ticket.resolved"]}
    revoked = entries[actions.index("key.revoke")]
    assert revoked["subject"] == key["id"]
    assert revoked["before"]["revokedAt"] is None
    assert revoked["after"]["revokedAt"] is not None
    for secret in (acme, "Alex Chen", "alex@acme.example"):
        assert secret not in whole.out
    shown = run("audit", "Acme").out
    assert "monthlyQuota: 10 -> 20" in shown
    assert "allowedEventTypes: +deal.won" in shown
    assert "cell.add" not in shown


def test_new_changes_are_followed(run: Run, acme: str) -> None:
    with process("audit", "Acme", "--follow", "--json", "--limit", "1") as follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["action"] == "key.create"
        run("org", "create", "Other")
        run("org", "update", "Acme", "--rate", "7")
        followed = json.loads(follower.stdout.readline())
        assert (followed["action"], followed["after"]["requestsPerSecond"]) == ("org.update", 7)
        follower.send_signal(signal.SIGINT)
        rest, err = follower.communicate(timeout=WAIT_SECONDS)
        assert (follower.returncode, rest, err) == (0, "", "")


def test_nothing_is_said_of_nobody(run: Run) -> None:
    assert run("audit") == (0, "", "Nothing has been changed.\n")
    assert "there is no organization" in run("audit", "Acme").err


def test_who_became_root_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "alex\udcff")
    run("org", "create", "Acme")
    [entry] = run("audit", "--json").json()
    assert entry["actor"] == "root (alex\\udcff)"
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)  # of no account
    run("org", "create", "Other")
    assert run("audit", "Other", "--json").json()[0]["actor"] == "user 4000000000"
