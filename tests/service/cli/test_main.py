"""The command line as a whole: exit codes, reasons and start-up."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.service.cli.command import Run, run_here


@pytest.fixture(scope="module")
def prepared_database(module_database: str) -> str:
    """A database with Acme and another organization, which no test of this file changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", module_database)
        for command in (
            ("org", "create", "Acme", "--quota", "10"),
            ("app", "create", "Acme", "crm-hub", "--name", "CRM", "--allow", "ticket.resolved"),
            ("org", "create", "Other"),
            ("worker", "create", "Acme", "--name", "A", "--email", "a@b.c"),
        ):
            code, _, err = run_here(patch, *command)
            assert (code, err) == (0, "")
    return module_database


@pytest.fixture
def database_url(prepared_database: str) -> str:
    return prepared_database


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
        (["worker", "rename", "Acme", "a@b.c", "A", "--email", "b"], "e-mail 'b'"),
        (["worker", "rename", "Acme", "a@b.c", "A", "--email", "b@c", "--no-email"], "--no-email"),
        (["worker", "merge", "Acme", "a@b.c", "A@B.c"], "are the same worker"),
        (["worker", "erase", "Acme", "a@b.c"], "--yes"),
        (["producer", "list", "Acme", "--limit", "0"], "--limit"),
        (["events", "Acme", "--limit", "-1"], "--limit"),
        (["serve", "--http", "8080"], "must be HOST:PORT"),
        (["serve", "--grpc", "localhost:99999"], "must be HOST:PORT"),
        (["serve", "--workers", "0"], "must be auto or 1 to 32"),
        (["serve", "--workers", "many"], "must be auto or 1 to 32"),
    ],
)
def test_bad_usage_is_2_and_says_why(run: Run, arguments: list[str], reason: str) -> None:
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
        (["worker", "show", "Acme", "nobody"], "there is no worker 'nobody'"),
        (["worker", "merge", "Acme", "a@b.c", "nobody"], "there is no worker 'nobody'"),
        (["producer", "list", "Acme", "--app", "nope"], "there is no app 'nope'"),
        (["producer", "forget", "Acme", "nope"], "there is no producer 'nope'"),
        (["events", "Acme", "--worker", "nobody"], "there is no worker 'nobody'"),
        (["events", "Acme", "--app", "nope"], "there is no app 'nope'"),
        (["snapshots", "Acme", "--worker", "nobody"], "there is no worker 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_1_with_one_line_on_stderr(
    run: Run, arguments: list[str], reason: str
) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (1, "")
    assert run(*arguments, "--json") == result
    assert result.err.startswith("wepeople-ingest: ")
    assert result.err.count("\n") == 1
    assert reason in result.err
    assert run("app", "list", "Acme", "--json").json()[0]["allowedEventTypes"] == [
        "ticket.resolved"
    ]


def test_a_mistyped_variable_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEPEOPLE_HTPP", "127.0.0.1:1")
    result = run("org", "list")
    assert (result.code, result.out) == (1, "")
    assert "WEPEOPLE_HTPP: did you mean WEPEOPLE_HTTP?" in result.err


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
