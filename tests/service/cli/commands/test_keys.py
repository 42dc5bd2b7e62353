"""``wepeople-ingest key``."""

from __future__ import annotations

import io
import re
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.service.cli.command import (
    KEY,
    WAIT_SECONDS,
    Run,
    command,
    send,
)
from tests.support.running_service import RunningService
from tests.support.tenant import UNKNOWN_KEY
from tests.support.waiting import wait_until


def test_a_key_is_shown_once_and_only_its_digest_is_kept(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("org", "create", "Acme")
    run("app", "create", "Acme", "crm-hub", "--name", "CRM Hub")
    result = run("key", "create", "crm-hub", "--expires-in", "30d", "--rate", "5")
    key = KEY.findall(result.out)[0]
    assert result.out.count("wp_live_") == 1
    assert "wp_live_" not in result.err
    [listed] = run("key", "list", "--json").json()
    assert (listed["state"], listed["requestsPerSecond"]) == ("active", 5)
    assert listed["endsIn"] == key[-4:]
    assert listed["expiresAt"] > listed["createdAt"]
    assert key not in run("key", "list", "crm-hub").out
    with psycopg.connect(database_url) as db:
        [row] = db.execute("SELECT digest, api_keys::text FROM api_keys").fetchall()
    assert len(row[0]) == 32
    assert key not in row[1]
    # Revoked by its id or, by whoever found it, by itself.
    monkeypatch.setattr("sys.stdin", io.StringIO(f"\nfound in a log: WEPEOPLE_API_KEY={key}.\n"))
    revoked = run("key", "revoke", "-", "--json")
    assert key not in revoked.out
    assert revoked.json()["state"] == "revoked"
    assert run("key", "revoke", key, "--json").json() == revoked.json()
    for nothing in (io.StringIO("\nwp_live_a secret that is no key\n"), None):
        monkeypatch.setattr("sys.stdin", nothing)
        refused = run("key", "revoke", "-")
        assert refused.code == 2
        assert "secret" not in refused.err
    assert run("key", "revoke", listed["id"], "--json").json() == revoked.json()
    assert "wp_live_…" in run("key", "revoke", UNKNOWN_KEY).err


def test_a_key_that_cannot_be_shown_is_named_for_revocation(run: Run, acme: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("key", "create", "crm-hub"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert re.search(r"key revoke key_\w{26}$", done.stderr.strip())
    assert "wp_live_" not in done.stderr


def test_a_key_is_replaced_and_works_until_its_end(run: Run, acme: str, database_url: str) -> None:
    run("org", "update", "Acme", "--quota", "none")
    [old] = run("key", "list", "--json").json()
    with RunningService(database_url) as server:
        first = run("key", "rotate", old["id"], "--json").json()
        assert send(server.addresses.http, acme, 1).status_code == 202
        assert send(server.addresses.http, first["key"], 1).status_code == 202
        # Again, with an end that is sooner.
        rotated = run("key", "rotate", old["id"], "--old-ends-in", "1s", "--json").json()
        wait_until(
            lambda: send(server.addresses.http, acme, 1).status_code == 401,
            "the old key has ended",
            seconds=WAIT_SECONDS,
        )
        assert send(server.addresses.http, rotated["key"], 1).status_code == 202
    assert (rotated["state"], rotated["expiresAt"]) == ("active", None)
    assert rotated["old"]["id"] == old["id"]
    assert (rotated["appId"], rotated["requestsPerSecond"]) == (old["appId"], 60)
    ended = run("key", "show", old["id"], "--json").json()
    del ended["lastUsedAt"], old["lastUsedAt"]
    assert ended == {**old, "state": "expired", "expiresAt": rotated["old"]["expiresAt"]}
    shown = run("key", "show", rotated["key"])
    assert rotated["key"] not in shown.out
    assert f"…{rotated['key'][-4:]}" in shown.out
    assert "active" in shown.out
    refused = run("key", "rotate", old["id"])
    assert (refused.code, refused.out) == (1, "")
    assert "expired" in refused.err
    assert len(run("key", "list", "--json").json()) == 3


def test_a_replaced_key_ends_a_day_later_or_when_it_would_have(run: Run, acme: str) -> None:
    [old] = run("key", "list", "--json").json()
    made = run("key", "rotate", old["id"])
    assert len(KEY.findall(made.out)) == 1
    assert old["id"] in made.out
    [replaced, new] = run("key", "list", "--json").json()
    day = datetime.fromisoformat(replaced["expiresAt"]) - datetime.fromisoformat(new["createdAt"])
    assert day == timedelta(days=1)
    again = run("key", "rotate", old["id"], "--old-ends-in", "30d", "--json").json()
    assert again["old"]["expiresAt"] == replaced["expiresAt"]
    actions = [(entry["action"], entry["subject"]) for entry in run("audit", "--json").json()]
    assert actions[:2] == [("key.rotate", old["id"]), ("key.create", again["id"])]


def test_keys_are_not_made_under_another_secret(
    run: Run, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEPEOPLE_KEY_SECRET", "the secret of the keys")
    assert run("key", "rotate-secret").code == 0
    monkeypatch.setenv("WEPEOPLE_KEY_SECRET", "another secret than before")
    result = run("key", "create", "crm-hub", "--json")
    assert (result.code, result.out) == (1, "")
    assert "WEPEOPLE_KEY_SECRET" in result.err
    assert "another secret" not in result.err
