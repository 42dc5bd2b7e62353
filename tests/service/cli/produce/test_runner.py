"""Runs that are ended and go on: each line is stored once."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.service.cli.produce.events_file import (
    Produce,
    numbered,
    produce_process,
    stored_numbers,
    write,
)
from tests.support.running_service import Addresses
from tests.support.tenant import FAST, Tenant, event, make_tenant, until_stored


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on_where_it_was(
    server: Addresses, produce: Produce, tmp_path: Path, how: signal.Signals
) -> None:
    # Slow, so that much is left however late the signal comes.
    tenant = asyncio.run(make_tenant(server.database_url, requests_per_second=20))
    lines: list[Any] = ["bad", *numbered(2_400), "bad"]
    file = write(tmp_path / "events.ndjson", lines)
    key = tmp_path / "key"
    key.write_text(f"{tenant.key}\n")
    rejected = tmp_path / "rejected.ndjson"
    arguments = (file, "--batch", 10, "--json", "--key-file", key, "--rejected", rejected)
    with produce_process(server, tenant, *arguments) as started:
        asyncio.run(until_stored(tenant, 520, seconds=60))
        started.send_signal(how)
        out, err = started.communicate(timeout=30)
    stored = len(asyncio.run(tenant.events()))
    assert 520 <= stored < 2_400
    if how is not signal.SIGKILL:
        assert started.returncode == 1
        said = json.loads(out)
        assert (said["finished"], said["accepted"]) == (False, stored)
        assert "Run the same command again" in err
    asyncio.run(tenant.update(requests_per_second=FAST))
    again = produce(*arguments)
    assert again.code == 1  # for the last line
    said = again.json()
    # A server goes on for a moment with what a killed client had sent.
    assert said["alreadyStored"] == stored or how is signal.SIGKILL
    assert said["accepted"] + said["alreadyStored"] == 2_400
    assert said["rejected"] == 2
    told = [json.loads(line)["line"] for line in rejected.read_text().splitlines()]
    assert told == [1, 1, 2_402]
    assert stored_numbers(tenant) == Counter(range(2_400))


def test_a_second_interrupt_does_not_wait(
    server: Addresses, tenant: Tenant, tmp_path: Path
) -> None:
    with produce_process(
        server, tenant, "-", "--producer-id", "me", stdin=subprocess.PIPE
    ) as started:
        assert started.stdin is not None
        started.stdin.write(json.dumps(event()) + "\n")
        started.stdin.flush()
        while not asyncio.run(
            tenant.rows("SELECT 1 FROM producers WHERE app_id = %s", tenant.app.id)
        ):
            time.sleep(0.02)
        began = time.monotonic()
        started.send_signal(signal.SIGINT)
        assert started.wait(20) == 1  # although standard input is open and its reader waits
        assert time.monotonic() - began < 4
        assert started.stderr is not None
        assert "interrupted" in started.stderr.read()


def test_other_lines_under_the_same_id_are_noticed_if_they_are_fewer(
    produce: Produce, tmp_path: Path
) -> None:
    long, short = (write(tmp_path / str(n), numbered(n)) for n in (20, 5))
    assert produce(long, "--producer-id", "me", "--batch", 2).code == 0
    done = produce(short, "--producer-id", "me", "--batch", 2)
    assert done.code == 1
    assert "20 events of this producer id were sent before and here are only 5" in done.err
    assert "line" not in done.err.splitlines()[1:]


@pytest.mark.parametrize("batch", [3, 4, 500])
def test_a_file_that_has_grown_goes_on_where_it_ended(
    produce: Produce, tenant: Tenant, tmp_path: Path, batch: int
) -> None:
    arguments = ("--producer-id", "log", "--json")
    file = tmp_path / "events.ndjson"
    lines: list[Any] = ["bad", *numbered(5), event(eventType="a.b"), "bad"]
    assert produce(write(file, lines), *arguments, "--batch", 4).code == 1
    lines += numbered(12)[5:]
    grown = produce(write(file, lines), *arguments, "--batch", batch)
    expected = {"accepted": 7, "rejected": 2, "alreadyStored": 5, "alreadyRejected": 1}
    assert expected.items() <= grown.json().items()
    assert stored_numbers(tenant) == Counter(range(12))
    write(file, [*lines, event(metadata={"n": 12})])
    assert produce(file, *arguments).json()["accepted"] == 1
    assert stored_numbers(tenant) == Counter(range(13))


def test_an_interrupted_run_goes_on_with_another_batch_size(
    server: Addresses, produce: Produce, tmp_path: Path
) -> None:
    tenant = asyncio.run(make_tenant(server.database_url, key_requests_per_second=50))
    file = write(tmp_path / "events.ndjson", numbered(600))
    (key := tmp_path / "key").write_text(tenant.key)
    with produce_process(server, tenant, file, "--batch", 7, "--key-file", key) as started:
        asyncio.run(until_stored(tenant, 100, seconds=60))
        started.kill()
    again = produce(file, "--batch", 50, "--key-file", key, "--json").json()
    assert again["accepted"] + again["alreadyStored"] == 600
    assert stored_numbers(tenant) == Counter(range(600))
