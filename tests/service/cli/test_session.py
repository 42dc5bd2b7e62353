"""A command's database: out of reach, without tables, or embedded."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.service.cli.command import (
    Run,
    send,
    served,
)


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
