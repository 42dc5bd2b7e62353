"""``wepeople-ingest bench``: what it reports, what it counts, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
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
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import psutil
import psycopg
import pytest
from psycopg import sql

import service.cli.main
from service.bench import resources
from service.bench.http_load import run_http
from service.bench.load import HttpLoad, StreamLoad
from service.bench.plan import usual
from service.bench.recorder import Recorder, now
from service.bench.sample import StreamBatches
from tests.support.running_service import Addresses

WAIT_SECONDS = 60.0
STALL_SECONDS = 0.5


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
            "WHERE attname = 'organization_id' AND relkind IN ('r', 'p') AND NOT relispartition"
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
    """What every measurement tells."""
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
        *("--seconds", "1.5", "--rounds", "1"),  # a busy machine sends and hears something in it
        DATABASE_URL=server.database_url,
    )
    lines = {line["name"]: line for line in report["measurements"]}
    assert set(lines) == {
        *("copy", "echo_1", "echo_500", "grpc_1", "grpc_4"),
        *("http_1", "alone_1", "http_500", "half_grpc", "half_http"),
    }
    for line in lines.values():
        check_line(line, 1)
    for name, yardstick in {
        **dict.fromkeys(("grpc_1", "grpc_4", "http_500"), "copy"),
        "http_1": "echo_1",
        "alone_1": "http_1",
    }.items():
        assert lines[name]["yardstick"] == yardstick
        assert lines[name]["ratio"] > 0
    # The service is a thread of this process, so its CPU time and memory can be seen.
    assert lines["http_1"]["cpu"]["serviceSeconds"] > 0
    assert lines["copy"]["cpu"]["databaseSeconds"] > 0
    assert report["memory"]["mostBytes"] >= report["memory"]["beforeBytes"] > 0
    assert report["machine"]["cores"] >= 1
    assert report["settings"]["seconds"] == 1.5
    assert organizations(server.database_url) == []
    assert rows_without_organization(server.database_url) == {}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files that PostgreSQL's user can reach, too."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_run_on_its_own_database_leaves_only_the_plot(temporary: Path) -> None:
    plot = temporary / "plot.svg"
    report = run(
        *("--protocol", "http", "--batch", "20", "--concurrency", "2", "--rate", "2000"),
        *("--seconds", "1", "--rounds", "2", "--plot", str(plot)),
        TMPDIR=str(temporary),
    )
    lines = {line["name"]: line for line in report["measurements"]}
    assert set(lines) == {"copy", "echo", "http"}
    for line in lines.values():
        check_line(line, 2)
    assert lines["http"]["eventsPerSecond"] <= 2_200
    assert lines["http"]["cpu"]["serviceSeconds"] > 0
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")  # noqa: S314
    assert list(temporary.iterdir()) == [plot]


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


# --- what is counted -------------------------------------------------------------------------


@pytest.mark.anyio
async def test_latency_at_a_rate_counts_from_when_a_request_was_due() -> None:
    """One stall of half a second is half a second for all that was due during it."""
    answered = 0
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                answered += 1
                if answered == 50:
                    await asyncio.sleep(STALL_SECONDS)
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()
        gone.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        recorder = Recorder(now(), 1.5)
        load = HttpLoad(f"http://127.0.0.1:{port}", "/", "key", 1, 1, 100.0)
        await run_http(load, recorder)
        await asyncio.wait_for(gone.wait(), WAIT_SECONDS)
    result = recorder.result()
    # Of some 150 requests, one was sent before the stall and answered after it; 50 were due.
    assert 100 <= result.requests <= 155
    assert result.latency_ms.max >= STALL_SECONDS * 900
    assert result.latency_ms.p90 >= STALL_SECONDS * 500


def test_what_was_due_and_never_sent_counts_as_slow() -> None:
    recorder = Recorder(now() - 2.0, 2.0)
    recorder.unsent(now() - 1.0)
    result = recorder.result()
    assert (result.requests, result.unsent) == (0, 1)
    assert result.latency_ms.p50 >= 1_000


def test_half_of_a_speed_at_which_nothing_was_acked_is_a_rate() -> None:
    places: Any = SimpleNamespace(
        target=SimpleNamespace(grpc="127.0.0.1:1", tls=False), tenant=SimpleNamespace(key="key")
    )
    (stage,) = usual("both", yardsticks=True)
    half = stage.measurements[-1].rows[0]
    loads = [half.load(places, {"grpc_1": speed}) for speed in (0.0, 50_000.0)]
    assert loads == [StreamLoad("127.0.0.1:1", False, "key", 500, 1, rate) for rate in (1.0, 50.0)]


def test_prepared_batches_are_what_the_contract_says() -> None:
    from grpc_api.pb import ingest_pb2 as pb

    batches = StreamBatches(3)
    for sequence in (1, 127, 128, 70_000):
        request = pb.StreamEventsRequest.FromString(batches.message(sequence))
        assert request.batch.sequence == sequence
        assert [event.actor.external_id for event in request.batch.events] == [
            f"crm-user-{number}" for number in range(3)
        ]
        assert request.SerializeToString() == batches.message(sequence)


# --- the command line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("--protocol", "udp"),
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
    monkeypatch.setattr(sys, "argv", ["wepeople-ingest", "bench", *arguments])
    told = io.StringIO()
    with contextlib.redirect_stderr(told), pytest.raises(SystemExit) as exit_:
        service.cli.main.main()
    assert exit_.value.code == 2
    assert arguments[0] in told.getvalue()


ENDLESSLY = """
import os, time
while True:
    if not os.fork():
        end = time.process_time() + 0.04
        while time.process_time() < end:
            pass
        os._exit(0)
    os.wait()
"""


def test_cpu_time_is_not_lost_with_processes_that_end() -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESSLY]) as parent:
        try:
            processes = resources.of_pid(parent.pid)
            seconds = [processes.cpu_seconds() for _ in range(2_000)]
        finally:
            parent.kill()
    for before, after in itertools.pairwise(seconds):
        assert after > before - 0.03  # what a process that ended had used is more, ticks are less
