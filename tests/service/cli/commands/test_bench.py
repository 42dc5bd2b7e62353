"""``wepeople-ingest bench``: its report, its options, and that nothing of a run is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import psycopg
import pytest
from psycopg import sql

from tests.service.cli.command import run_here
from tests.support.running_service import Addresses

WAIT_SECONDS = 60.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "service.cli", "bench", *arguments]


def environment(**variables: str) -> dict[str, str]:
    """This process's, without its settings of the service."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "DATABASE_URL" and not name.startswith("WEPEOPLE_")
    }
    return kept | variables


def run(*arguments: str, **variables: str) -> Any:
    """The report of a run."""
    done = subprocess.run(
        command(*arguments, "--json"),
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS + 30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def organizations(database_url: str) -> list[Any]:
    """The ids of the organizations that runs have made."""
    with psycopg.connect(database_url) as db:
        query = "SELECT id FROM organizations WHERE name LIKE 'Bench %'"
        return [row[0] for row in db.execute(query)]


def rows_without_organization(database_url: str) -> dict[str, int]:
    """Rows of organizations that do not exist, by table."""
    found = {}
    with psycopg.connect(database_url) as db:
        for (name,) in db.execute(
            "SELECT relname::text FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid "
            "WHERE attname = 'organization_id' AND relkind IN ('r', 'p') AND NOT relispartition "
            # The audit log tells of what is gone, too, and statistics are written a moment later.
            "AND relname NOT IN ('audit', 'traffic', 'key_uses')"
        ).fetchall():
            row = db.execute(
                sql.SQL(
                    "SELECT count(*) FROM {} WHERE organization_id NOT IN "
                    "(SELECT id FROM organizations)"
                ).format(sql.Identifier(name))
            ).fetchone()
            assert row is not None
            if row[0]:
                found[name] = row[0]
    return found


def check_line(line: dict[str, Any], rounds: int) -> None:
    """Check what every measurement reports."""
    assert line["eventsPerSecond"] > 0
    assert line["requestsPerSecond"] > 0
    latency = line["latencyMs"]
    assert set(latency) == {"p50", "p90", "p99", "p999", "max"}
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p999"]
    assert set(line["cpu"]) >= {"serviceSeconds", "databaseSeconds", "generatorSeconds"}
    assert len(line["rounds"]) == rounds
    for one in line["rounds"]:
        assert one["timeline"]
        assert set(one["timeline"][0]) == {"second", "eventsPerSecond", "p50Ms", "p99Ms"}


def test_a_run_beside_other_data_reports_everything_and_leaves_nothing(server: Addresses) -> None:
    report = run(
        *("--server", server.http, "--server", server.grpc),
        *("--seconds", "1", "--rounds", "1"),  # a busy machine sends and hears something in it
        DATABASE_URL=server.database_url,
    )
    lines = {line["name"]: line for line in report["measurements"]}
    assert set(lines) == {
        *("copy", "echo_1", "echo_500", "grpc_1", "grpc_4", "bare_1", "unary_1", "unary_500"),
        *("http_1", "alone_1", "http_500", "half_grpc", "half_http"),
    }
    for line in lines.values():
        check_line(line, 1)
    for name, yardstick in {
        **dict.fromkeys(("grpc_1", "grpc_4", "unary_500", "http_500"), "copy"),
        "unary_1": "bare_1",
        "http_1": "echo_1",
        "alone_1": "http_1",
    }.items():
        assert lines[name]["yardstick"] == yardstick
        assert lines[name]["ratio"] > 0
    # The service is a thread of this process, so its CPU time and memory can be seen.
    assert lines["http_1"]["cpu"]["serviceSeconds"] > 0
    assert lines["bare_1"]["cpu"]["serviceSeconds"] > 0  # of the yardstick, not of the service
    assert lines["copy"]["cpu"]["databaseSeconds"] > 0
    assert report["memory"]["mostBytes"] >= report["memory"]["beforeBytes"] > 0
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["serverProcesses"] == 1
    assert report["settings"]["seconds"] == 1
    assert organizations(server.database_url) == []
    assert rows_without_organization(server.database_url) == {}


@pytest.fixture
def temporary_folder() -> Iterator[Path]:
    """A folder for temporary files that PostgreSQL's user can reach, too."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_run_on_its_own_database_leaves_only_the_plot(temporary_folder: Path) -> None:
    plot = temporary_folder / "plot.svg"
    report = run(
        *("--protocol", "http", "--batch", "20", "--concurrency", "2", "--rate", "2000"),
        *("--seconds", "1", "--rounds", "2", "--plot", str(plot), "--serve-option=--workers=2"),
        TMPDIR=str(temporary_folder),
    )
    lines = {line["name"]: line for line in report["measurements"]}
    assert set(lines) == {"copy", "echo", "http"}
    for line in lines.values():
        check_line(line, 2)
    assert lines["http"]["eventsPerSecond"] <= 2_200
    assert report["machine"]["serverProcesses"] == 2
    assert lines["http"]["cpu"]["serviceSeconds"] > 0
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")  # noqa: S314
    assert list(temporary_folder.iterdir()) == [plot]


def test_growth_is_measured_against_none(server: Addresses) -> None:
    report = run(
        *("--server", server.grpc, "--stored", "20000", "--seconds", "0.5", "--rounds", "1"),
        DATABASE_URL=server.database_url,
    )
    lines = {line["name"]: line for line in report["measurements"]}
    assert set(lines) == {"grpc", "grpc_stored"}
    assert lines["grpc_stored"]["yardstick"] == "grpc"
    assert lines["grpc_stored"]["ratio"] > 0
    assert rows_without_organization(server.database_url) == {}


def test_streams_at_a_low_rate_are_open_until_the_end(server: Addresses) -> None:
    """Also if their last batch is acked long before it."""
    report = run(
        *("--server", server.grpc, "--no-yardsticks", "--batch", "10", "--concurrency", "2"),
        *("--rate", "30", "--seconds", "3", "--rounds", "1"),
        DATABASE_URL=server.database_url,
    )
    (line,) = report["measurements"]
    check_line(line, 1)
    assert line["eventsPerSecond"] <= 40
    assert 0 < line["cpu"]["generatorSeconds"] <= 3


def test_calls_at_a_rate_are_each_stored_under_a_key_of_their_own(server: Addresses) -> None:
    report = run(
        *("--server", server.grpc, "--protocol", "grpc-unary", "--batch", "10"),
        *("--concurrency", "70", "--rate", "200", "--seconds", "2", "--rounds", "1"),
        DATABASE_URL=server.database_url,
    )
    lines = {line["name"]: line for line in report["measurements"]}
    assert set(lines) == {"copy", "bare", "unary"}
    for line in lines.values():
        check_line(line, 1)
    assert lines["unary"]["eventsPerSecond"] <= 220


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_cleans_up(server: Addresses, number: signal.Signals) -> None:
    with subprocess.Popen(
        command("--server", server.http, "--batch", "50", "--no-yardsticks", "--seconds", "60"),
        env=environment(DATABASE_URL=server.database_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            deadline = time.monotonic() + WAIT_SECONDS
            while not _stored(server.database_url):
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.1)
            (organization,) = organizations(server.database_url)
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) == 2  # the echo and the generator
            process.send_signal(number)
            time.sleep(0.3)
            process.send_signal(number)  # impatience does not leave a mess behind
            out, err = process.communicate(timeout=WAIT_SECONDS)
        finally:
            process.kill()
    assert (process.returncode, out) == (1, "")
    assert "Interrupted" in err
    assert organizations(server.database_url) == []
    assert rows_without_organization(server.database_url) == {}
    assert organization
    assert psutil.wait_procs(children, timeout=WAIT_SECONDS)[1] == []


def _stored(database_url: str) -> bool:
    with psycopg.connect(database_url) as db:
        row = db.execute(
            "SELECT count(*) FROM quota_usage WHERE organization_id IN "
            "(SELECT id FROM organizations WHERE name LIKE 'Bench %')"
        ).fetchone()
        return row is not None and row[0] > 0


def test_a_server_of_another_database_is_told_of_and_cleaned_up_after(
    server: Addresses, database_url: str
) -> None:
    done = subprocess.run(
        command("--server", server.http, "--seconds", "0.5", "--batch", "1", "--no-yardsticks"),
        env=environment(DATABASE_URL=database_url),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "status 401" in done.stderr
    assert organizations(database_url) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--protocol", "udp"),
        ("--protocol", "at-rest", "--batch", "1"),
        ("--protocol", "at-rest", "--stored", "1"),
        ("--batch", "0"),
        ("--batch", "501"),
        ("--concurrency", "0"),
        ("--rate", "fast"),
        ("--rate", "0"),
        ("--seconds", "0"),
        ("--rounds", "0"),
        ("--stored", "0"),
        ("--server", "nonsense"),
        ("--server", "a:1", "--server", "b:2"),
        ("--server", "a:1", "--serve-option=--demo"),
        ("--plot", "picture.png"),
        ("--plot", "no/such/folder/picture.svg"),
    ],
)
def test_bad_options_exit_2(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run_here(monkeypatch, "bench", *arguments)
    assert code == 2
    assert arguments[0] in err
