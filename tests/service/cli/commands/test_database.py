"""``wepeople-ingest database``: programs of PostgreSQL's on the embedded database."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.cli.command import Result, Run, run_here
from tests.service.postgres.lease_holder import end


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a command on an embedded database of the test's own."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    folder = Path(tempfile.mkdtemp(prefix="wp-", dir="/tmp"))  # short: a socket's path is in it
    monkeypatch.setenv("WEPEOPLE_DATA_DIR", os.fspath(folder / "data"))
    handler = signal.getsignal(signal.SIGINT)
    yield lambda *arguments: Result(*run_here(monkeypatch, *arguments))
    signal.signal(signal.SIGINT, handler)
    end(folder / "data")
    shutil.rmtree(folder)


def test_a_program_runs_on_the_embedded_database_whatever_the_environment_says(
    run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "192.0.2.1")
    monkeypatch.setenv("PGDATABASE", "elsewhere")
    query = "SELECT current_user, current_database()"
    assert run("database", "psql", "--no-align", "--tuples-only", "-c", query).code == 0
    assert capfd.readouterr().out == "wepeople|wepeople\n"


def test_a_dump_is_for_its_owner_alone(run: Run, tmp_path: Path) -> None:
    dump = tmp_path / "ingest.dump"
    assert run("database", "pg_dump", f"--file={dump}").code == 0
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600


def test_a_program_that_fails_is_told(run: Run) -> None:
    failed = run("database", "psql", "-c", "SELECT 1 / 0")
    assert (failed.code, failed.err) == (1, "psql ended with status 1\n")


def test_other_programs_and_other_servers_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("database", "rm", "-r", ".").code == 2
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.invalid/ingest")
    refused = run("database", "psql")
    assert refused.code == 1
    assert "DATABASE_URL is set" in refused.err
