"""The operator's command line, on a real database, in this process or as one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import service.cli.main
from service.cli.durations import parse_seconds

PROGRAM = "wepeople-ingest"
WAIT_SECONDS = 30.0
KEY = re.compile(r"wp_live_[0-9a-f]{32}")


class Result(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The JSON document, which is all there is on stdout, on one line."""
        assert (self.code, self.err) == (0, "")
        assert self.out.count("\n") == 1
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process use the test's own database."""
    for name in os.environ:
        if name.startswith("WEPEOPLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", database_url)


@pytest.fixture
def run(environment: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, as its entry point does."""

    def main(*arguments: str) -> Result:
        out = io.TextIOWrapper(io.BytesIO(), "utf-8")
        err = io.TextIOWrapper(io.BytesIO(), "utf-8")
        monkeypatch.setattr(sys, "argv", [PROGRAM, *arguments])
        code: str | int | None = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                service.cli.main.main()
            except SystemExit as exit_:
                code = exit_.code or 0
        assert isinstance(code, int)
        return Result(code, _text(out), _text(err))

    return main


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


@pytest.fixture
def acme(run: Run) -> str:
    """A key of the app crm-hub of Acme."""
    run("org", "create", "Acme", "--quota", "10")
    run("app", "create", "Acme", "crm-hub", "--name", "CRM Hub", "--allow", "ticket.resolved")
    key = run("key", "create", "crm-hub", "--json").json()["key"]
    assert KEY.fullmatch(key)
    return str(key)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "service.cli", *arguments]


@contextlib.contextmanager
def process(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command as a process of its own, which does not outlive the block."""
    with subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """A running ``serve --json`` and its ready line."""
    free = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    with process("serve", "--json", *free, *arguments) as started:
        assert started.stdout is not None
        line = started.stdout.readline()
        if not line:
            raise AssertionError(started.communicate()[1])
        yield json.loads(line), started


def send(url: str, key: str, count: int, **members: Any) -> httpx.Response:
    """Post events about one person."""
    event = {
        "eventType": "ticket.resolved",
        "category": "project_management",
        "actor": {"externalId": "crm-user-42"},
        **members,
    }
    return httpx.post(
        f"{url}/api/v1/ingest/events",
        json={"events": [event] * count},
        headers={"Authorization": f"Bearer {key}"},
    )


# --- organizations ---------------------------------------------------------------------------


def test_an_organization_is_made_shown_changed_and_listed(run: Run) -> None:
    made = run("org", "create", "Acme", "--quota", "1000", "--rate", "50", "--json").json()
    assert re.fullmatch(r"org_[0-9A-Z]{26}", made["id"])
    assert made["createdAt"].endswith("Z")
    expected = {"name": "Acme", "developerApi": True, "monthlyQuota": 1000, "requestsPerSecond": 50}
    assert expected.items() <= made.items()
    for given in ("Acme", made["id"]):
        assert run("org", "show", given, "--json").json() == made
    changed = run("org", "update", "Acme", "--no-developer-api", "--quota", "none", "--json").json()
    assert changed == {**made, "developerApi": False, "monthlyQuota": None}
    renamed = run("org", "update", made["id"], "--name", "Ácme & Co", "--rate", "7", "--json")
    assert renamed.json() == {**changed, "name": "Ácme & Co", "requestsPerSecond": 7}
    other = run("org", "create", "Zoo", "--no-developer-api", "--json").json()
    assert (other["developerApi"], other["monthlyQuota"]) == (False, None)
    assert run("org", "list", "--json").json() == [other, renamed.json()]


def test_people_get_tables_and_scripts_get_json_wherever_the_option_stands(run: Run) -> None:
    nothing = run("org", "list")
    assert (nothing.code, nothing.out) == (0, "")
    assert "wepeople-ingest org create" in nothing.err
    assert run("--json", "org", "list").json() == []
    run("org", "create", "Acme", "--quota", "1234567")
    table = run("org", "list")
    assert table.err == ""
    header, row = table.out.splitlines()
    assert header.split()[0] == "ID"
    assert row.split()[1:4] == ["on", "1,234,567", "600/s"]
    assert row.split()[-1] == "Acme"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["org", "create", ""], "must be 1 to 200 characters"),
        (["org", "create", "x" * 201], "must be 1 to 200 characters"),
        (["org", "create", " Acme"], "white space"),
        (["org", "create", "Acme", "--quota", "many"], "neither a number of events nor none"),
        (["org", "create", "Acme", "--quota=-1"], "neither a number of events nor none"),
        (["org", "create", "Acme", "--quota", "9" * 19], "must be 0 to"),
        (["org", "create", "Acme", "--rate", "0"], "--rate"),
        (["org", "create", "Acme", "--rate", "1000001"], "must be 1 to 1000000"),
        (["org", "update", "Acme"], "nothing to change"),
        (["org", "create"], "NAME"),
        (["org", "destroy"], "destroy"),
        (["app", "create", "Acme", "Crm_Hub", "--name", "x"], "the slug 'Crm_Hub' must be"),
        (["app", "create", "Acme", "x" * 65, "--name", "x"], "must be 1 to 64"),
        (["app", "create", "Acme", "-x", "--name", "x"], "-x"),
        (["app", "create", "Acme", "x", "more", "--name", "x"], "'more' is one too many"),
        (["app", "create", "Acme", "x", "--name", "x", "--allow", "a b"], "event type 'a b'"),
        (["app", "allow", "crm-hub"], "TYPE"),
        (["app", "allow", "crm-hub", ","], "at least one event type"),
        (["key", "create", "crm-hub", "--expires-in", "30"], "'30' is not a duration"),
        (["key", "create", "crm-hub", "--expires-in", "0d"], "'0d' is not a duration"),
        (["key", "create", "crm-hub", "--expires-in", "999999999d"], "year 10000"),
        (["key", "create", "crm-hub", "--rate", "-3"], "--rate"),
        (["worker", "create", "Acme", "--name", "A", "--email", "a.example"], "e-mail 'a.example'"),
        (["events", "Acme", "--limit", "-1"], "--limit"),
        (["serve", "--http", "8080"], "must be HOST:PORT"),
        (["serve", "--grpc", "localhost:99999"], "must be HOST:PORT"),
        (["serve", "--workers", "0"], "greater than or equal to 1"),
        (["serve", "--workers", "many"], "valid integer"),
    ],
)
def test_bad_usage_is_2_and_says_why(
    run: Run, acme: str, arguments: list[str], reason: str
) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert reason in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["org", "create", "Acme"], "an organization named 'Acme' exists already"),
        (["org", "update", "Acme", "--name", "Other"], "named 'Other' exists already"),
        (["org", "show", "Acmee"], "there is no organization 'Acmee': did you mean 'Acme'?"),
        (["org", "show", "org_01HP3K5V4J3M9NVT8XZKQ9YQ2E"], "`wepeople-ingest org list`"),
        (["org", "show", "\udcff\0"], "there is no organization"),
        (["app", "list", "nobody"], "there is no organization 'nobody'"),
        (["app", "create", "Acme", "crm-hub", "--name", "x"], "an app 'crm-hub' exists already"),
        (["app", "allow", "crm", "abc"], "did you mean 'crm-hub'?"),
        (["app", "allow", "Other/crm-hub", "abc"], "there is no app 'Other/crm-hub'"),
        (["app", "deny", "crm-hub", "ticket.resolved", "abc"], "nothing was changed: abc"),
        (["key", "create", "nope"], "there is no app 'nope'"),
        (["key", "revoke", "key_nope"], "there is no key 'key_nope'"),
        (["worker", "create", "Acme", "--name", "B", "--email", "A@B.c"], "'A@B.c' exists already"),
        (["events", "Acme", "--worker", "nobody"], "there is no worker 'nobody'"),
        (["events", "Acme", "--app", "nope"], "there is no app 'nope'"),
        (["snapshots", "Acme", "--worker", "nobody"], "there is no worker 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_1_with_one_line_on_stderr(
    run: Run, acme: str, arguments: list[str], reason: str
) -> None:
    run("org", "create", "Other")
    run("worker", "create", "Acme", "--name", "A", "--email", "a@b.c")
    result = run(*arguments)
    assert (result.code, result.out) == (1, "")
    assert run(*arguments, "--json") == result
    assert result.err.startswith("wepeople-ingest: ")
    assert result.err.count("\n") == 1
    assert reason in result.err
    assert run("app", "list", "Acme", "--json").json()[0]["allowedEventTypes"] == [
        "ticket.resolved"
    ]


# --- apps and keys ---------------------------------------------------------------------------


def test_a_whitelist_is_given_at_once_added_to_and_taken_from(run: Run) -> None:
    run("org", "create", "Acme")
    create = ["app", "create", "Acme", "crm-hub", "--name", "CRM Hub", "--json", "--allow"]
    made = run(*create, "ticket.resolved", "deal.won,call.finished", "--allow", "a-b").json()
    assert made["allowedEventTypes"] == ["a-b", "call.finished", "deal.won", "ticket.resolved"]
    assert (made["slug"], made["name"]) == ("crm-hub", "CRM Hub")
    assert made["source"] == "custom:crm-hub"
    added = run("app", "allow", "crm-hub", "deal.won", "Zeta", "--json").json()
    assert added["allowedEventTypes"] == ["Zeta", *made["allowedEventTypes"]]
    left = run("app", "deny", made["id"], "a-b", "Zeta", "deal.won", "call.finished", "--json")
    assert left.json()["allowedEventTypes"] == ["ticket.resolved"]
    assert run("app", "list", "--json").json() == [left.json()]
    bare = run("app", "create", "Acme", "bare", "--name", "Bare")
    assert "app allow bare" in bare.err


def test_a_slug_in_two_organizations_has_to_be_told_apart(run: Run) -> None:
    made = {}
    for name in ("Acme", "A/B"):
        run("org", "create", name)
        create = ("app", "create", name, "crm-hub", "--name", "CRM", "--json")
        made[name] = run(*create).json()
    ambiguous = run("key", "create", "crm-hub")
    assert ambiguous.code == 1
    assert "Acme/crm-hub" in ambiguous.err
    assert made["A/B"]["id"] in ambiguous.err
    for name, app in made.items():
        for given in (f"{name}/crm-hub", f"{app['organizationId']}/crm-hub", app["id"]):
            assert run("key", "create", given, "--json").json()["appId"] == app["id"]
        # Where the organization is known anyway, the slug is enough.
        assert run("events", name, "--app", "crm-hub", "--json").json() == []


def test_a_key_is_shown_once_and_only_its_digest_is_kept(run: Run, database_url: str) -> None:
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
    revoked = run("key", "revoke", key, "--json")
    assert key not in revoked.out
    assert revoked.json()["state"] == "revoked"
    assert run("key", "revoke", listed["id"], "--json").json() == revoked.json()
    assert "wp_live_…" in run("key", "revoke", "wp_live_" + "0" * 32).err


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


# --- workers, usage, timeline, beside a running server -----------------------------------------


def test_commands_work_beside_a_running_server(run: Run, acme: str) -> None:
    alex = run("worker", "create", "Acme", "--name", "Alex Chen", "--email", "Alex@acme.example")
    assert "Alex Chen" in alex.out
    with served() as (ready, server):
        url = ready["http"]
        assert ready["event"] == "ready"
        metadata = {"n": 12345678901234567890123, "text": "é\u001b[31m\n"}
        actor = {"externalId": "crm-user-42", "email": "alex@ACME.example"}
        assert send(url, acme, 3, actor=actor, duration=240, metadata=metadata).status_code == 202
        assert send(url, acme, 8, eventType="deal.won").status_code == 403
        assert send(url, acme, 8).status_code == 207  # the quota is 10
        snapshot = {"snapshotType": "load", "actor": actor, "metrics": {"open": 0.10}}
        headers = {"Authorization": f"Bearer {acme}"}
        refused = httpx.post(f"{url}/api/v1/ingest/snapshots", json=snapshot, headers=headers)
        assert refused.status_code == 402
        run("org", "update", "Acme", "--quota", "100")
        run("app", "allow", "crm-hub", "deal.won")
        _until(lambda: send(url, acme, 1, eventType="deal.won").status_code == 202)
        for number in (1, 2):
            snapshot["metrics"] = {"open": number}
            sent = httpx.post(f"{url}/api/v1/ingest/snapshots", json=snapshot, headers=headers)
            assert sent.status_code == 202

        [person] = run("worker", "list", "Acme", "--json").json()
        assert (person["displayName"], person["email"]) == ("Alex Chen", "Alex@acme.example")
        assert person["links"] == [{"app": "crm-hub", "externalId": "crm-user-42"}]

        _until(lambda: "quota_exceeded" in run("usage", "Acme", "--json").json()["rejected"])
        usage = run("usage", "Acme", "--json").json()
        assert (usage["quota"], usage["used"], usage["left"]) == (100, 13, 87)
        assert usage["accepted"] == 13
        assert usage["rejected"]["forbidden_event_type"]["events"] >= 8
        assert usage["rejected"]["quota_exceeded"]["events"] == 1
        assert re.search(r"left +87\n", run("usage", "Acme").out)

        listed = run("events", "Acme", "--json").json()
        assert len(listed) == 11
        assert [event["id"] for event in listed] == sorted(
            (event["id"] for event in listed), reverse=True
        )
        assert listed[0]["eventType"] == "deal.won"
        last = listed[-1]
        assert last["metadata"] == metadata
        assert (last["source"], last["duration"]) == ("custom:crm-hub", 240)
        assert last["worker"] == {"id": person["id"], "displayName": "Alex Chen"}
        for worker in (person["id"], "ALEX@acme.example", "crm-user-42"):
            found = run("events", "Acme", "--worker", worker, "--limit", "2", "--json").json()
            assert [event["id"] for event in found] == [event["id"] for event in listed[:2]]
        table = run("events", "Acme").out
        assert "\x1b" not in table  # a client does not command the terminal
        assert len(table.splitlines()) == 12

        [card] = run("snapshots", "Acme", "--worker", "crm-user-42", "--json").json()
        assert (card["metrics"], card["current"]) == ({"open": 2}, True)
        history = run("snapshots", "Acme", "--history", "--json").json()
        assert [version["metrics"]["open"] for version in history] == [2, 1]
        assert [version["current"] for version in history] == [True, False]
        assert '{"open": 2}' in run("snapshots", "Acme").out

        run("key", "revoke", acme)
        _until(lambda: send(url, acme, 1).status_code == 401)
        server.send_signal(signal.SIGTERM)
        assert server.wait(WAIT_SECONDS) == 0
        assert server.stdout is not None
        assert server.stdout.read() == ""  # the ready line is all


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_followed_events_come_one_a_line_until_ctrl_c(
    run: Run, acme: str, signal_number: signal.Signals
) -> None:
    with served() as (ready, _):
        send(ready["http"], acme, 3)
        with process("events", "Acme", "--follow", "--limit", "2", "--json") as follower:
            assert follower.stdout is not None
            lines = [json.loads(follower.stdout.readline()) for _ in range(2)]
            send(ready["http"], acme, 2, metadata={"a": [1, 2]})
            lines += [json.loads(follower.stdout.readline()) for _ in range(2)]
            follower.send_signal(signal_number)
            rest, err = follower.communicate(timeout=WAIT_SECONDS)
        assert (follower.returncode, rest, err) == (0, "", "")
        stored = run("events", "Acme", "--json").json()
        assert lines == stored[:4][::-1]


def test_whoever_has_read_enough_ends_a_command_silently(run: Run, acme: str) -> None:
    with served() as (ready, _):
        send(ready["http"], acme, 5)
        with process("events", "Acme", "--follow", "--json") as follower:
            assert follower.stdout is not None
            follower.stdout.readline()
            follower.stdout.close()
            send(ready["http"], acme, 1)
            assert follower.wait(WAIT_SECONDS) == 0
            assert follower.stderr is not None
            assert follower.stderr.read() == ""


# --- serve, settings, databases ----------------------------------------------------------------


def test_serve_with_demo_prints_lines_that_work_when_pasted(environment: None) -> None:
    addresses = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    with process("serve", "--demo", *addresses) as server:
        assert server.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = server.stdout.readline()
            assert line, server.communicate()[1]
            said += line
        pasted = re.findall(r"^  (curl (?:.*\\\n)*.*)$", said, re.MULTILINE)
        assert len(pasted) == 3
        for text in pasted:
            done = subprocess.run(
                ["/bin/sh", "-c", text], capture_output=True, text=True, check=True, timeout=30
            )
            assert "error" not in json.loads(done.stdout)
        server.send_signal(signal.SIGINT)
        assert server.wait(WAIT_SECONDS) == 0
    # The key is stored nowhere, so on this database it cannot be shown a second time.
    with process("serve", "--demo", *addresses) as server:
        assert server.stdout is not None
        said = "".join(iter(server.stdout.readline, "Ctrl-C stops it.\n"))
        assert "key create Demo/crm-hub" in said
        assert "wp_live_" not in said


def test_a_taken_port_is_named(environment: None) -> None:
    with served() as (ready, _):
        address = ready["http"].removeprefix("http://")
        with process("serve", "--http", address, "--grpc", "127.0.0.1:0") as second:
            out, err = second.communicate(timeout=WAIT_SECONDS)
    assert (second.returncode, out) == (1, "")
    assert address in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_mistyped_variable_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEPEOPLE_HTPP", "127.0.0.1:1")
    result = run("org", "list")
    assert (result.code, result.out) == (1, "")
    assert "WEPEOPLE_HTPP: did you mean WEPEOPLE_HTTP?" in result.err


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://127.0.0.1:1/nothing", "cannot connect to PostgreSQL"),
        ("no url at all", "DATABASE_URL is not a connection string"),
    ],
)
def test_a_database_out_of_reach_is_explained_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    begun = time.monotonic()
    for arguments in (["org", "list", "--json"], ["migrate"]):
        result = run(*arguments)
        assert (result.code, result.out) == (1, "")
        assert reason in result.err
        assert result.err.count("\n") == 1
    assert time.monotonic() - begun < 20  # it is waited for half a minute otherwise


def test_a_database_without_rights_or_tables_is_explained(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database_url, autocommit=True) as db:
        name = f"wepeople_stranger_{os.getpid()}"
        role = sql.Identifier(name)
        db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'strange'").format(role))
        try:
            stranger = make_conninfo(database_url, user=name, password="strange")
            monkeypatch.setenv("DATABASE_URL", stranger)
            result = run("org", "list")
            assert (result.code, result.err.count("\n")) == (1, 1)
            assert "the database refused: permission denied" in result.err
        finally:
            db.execute(sql.SQL("DROP ROLE {}").format(role))
        db.execute("DROP SCHEMA public CASCADE")
        db.execute("CREATE SCHEMA public")
    monkeypatch.setenv("DATABASE_URL", database_url)
    result = run("org", "list")
    assert result.code == 1
    assert "run `wepeople-ingest migrate`" in result.err
    applied = run("migrate", "--json").json()["applied"]
    assert applied[0] == "0001_initial.sql"
    assert run("migrate").out == "The database is up to date.\n"
    assert run("org", "list", "--json").json() == []


def test_keys_are_not_made_under_another_secret(
    run: Run, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEPEOPLE_KEY_SECRET", "another secret than before")
    result = run("key", "create", "crm-hub", "--json")
    assert (result.code, result.out) == (1, "")
    assert "WEPEOPLE_KEY_SECRET" in result.err
    assert "another secret" not in result.err


def test_an_embedded_database_needs_no_preparation(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("WEPEOPLE_DATA_DIR", str(tmp_path / "data"))
    result = run("org", "create", "Acme", "--json")  # what took long was told on stderr
    assert json.loads(result.out)["name"] == "Acme"
    with served("--demo") as (ready, _):
        assert send(ready["http"], ready["demoKey"], 1).status_code == 202
        assert [one["name"] for one in run("org", "list", "--json").json()] == ["Acme", "Demo"]
    file = tmp_path / "data" / "demo-key"
    assert file.stat().st_mode & 0o777 == 0o600
    # Beside an embedded database the key is kept, and replaced once it is of no use.
    with served("--demo") as (again, _):
        assert again["demoKey"] == ready["demoKey"] == file.read_text().strip()
    run("key", "revoke", ready["demoKey"])
    with served("--demo") as (replaced, _):
        assert replaced["demoKey"] != ready["demoKey"]
        assert send(replaced["http"], replaced["demoKey"], 1).status_code == 202


# --- help, output ------------------------------------------------------------------------------


def test_serve_help_shows_every_setting(run: Run) -> None:
    from service.settings import settings_help

    text = run("serve", "--help").out
    for variable, _, _ in settings_help():
        assert variable in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve"],
        ["migrate"],
        *(["org", verb] for verb in ("create", "list", "show", "update")),
        *(["app", verb] for verb in ("create", "list", "allow", "deny")),
        *(["key", verb] for verb in ("create", "list", "revoke")),
        *(["worker", verb] for verb in ("create", "list")),
        ["usage"],
        ["events"],
        ["snapshots"],
    ],
    ids=" ".join,
)
def test_every_command_has_help_and_json(run: Run, arguments: list[str]) -> None:
    result = run(*arguments, "--help")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"^  --json +Print JSON, for scripts\.$", result.out, re.MULTILINE)
    assert max(map(len, result.out.split("\nExamples:")[0].splitlines())) <= 80


def test_help_and_version_need_no_heavy_imports(run: Run) -> None:
    assert re.fullmatch(r"wepeople-ingest \d+\.\d+\.\d+\S*\n", run("--version").out)
    heavy = {"psycopg", "pydantic", "fastapi", "grpc", "msgspec", "rich"}
    text = (
        (
            "import sys, service.cli.main\n"
            "sys.argv = ['wepeople-ingest', '--help']\n"
            "try: service.cli.main.main()\n"
            f"finally: sys.stderr.write(' '.join({heavy} & sys.modules.keys()))"
        )
        .replace("('psycopg'", "{'psycopg'")
        .replace("'rich')", "'rich'}")
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "Examples:" in done.stdout


@pytest.mark.parametrize(("width", "is_block"), [(200, False), (40, True)])
def test_a_table_fits_the_terminal_or_becomes_blocks(
    run: Run, acme: str, width: int, is_block: bool
) -> None:
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
    terminal, end = os.openpty()
    try:
        done = subprocess.run(
            command("app", "list"), stdout=end, stdin=end, env=environment, timeout=WAIT_SECONDS
        )
        shown = os.read(terminal, 65_536).decode()
    finally:
        os.close(terminal)
        os.close(end)
    assert done.returncode == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert bool(re.match(r"ID +app_\w{26}$", lines[0])) == is_block
    assert len(lines) == (5 if is_block else 2)
    assert is_block or max(map(len, lines)) <= width
    assert "\x1b[1m" in shown
    assert "\x1b" not in run("app", "list").out  # which is no terminal


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)]
)
def test_durations(given: str, seconds: int) -> None:
    assert parse_seconds(given) == seconds


@pytest.mark.parametrize("given", ["", "s", "90", "1.5h", "-1s", "1w", " 1s", "1s\n", "0s", "١s"])
def test_what_is_no_duration(given: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_seconds(given)
