"""``wepeople-ingest events``: what is shown, and following it."""

from __future__ import annotations

import json
import signal

import pytest

from tests.service.cli.command import (
    WAIT_SECONDS,
    Run,
    process,
    send,
)
from tests.support.running_service import RunningService


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_followed_events_come_one_a_line_until_ctrl_c(
    run: Run, acme: str, signal_number: signal.Signals, database_url: str
) -> None:
    with RunningService(database_url) as server:
        send(server.addresses.http, acme, 3)
        with process("events", "Acme", "--follow", "--limit", "2", "--json") as follower:
            assert follower.stdout is not None
            lines = [json.loads(follower.stdout.readline()) for _ in range(2)]
            send(server.addresses.http, acme, 2, metadata={"a": [1, 2]})
            lines += [json.loads(follower.stdout.readline()) for _ in range(2)]
            follower.send_signal(signal_number)
            rest, err = follower.communicate(timeout=WAIT_SECONDS)
        assert (follower.returncode, rest, err) == (0, "", "")
        stored = run("events", "Acme", "--json").json()
        assert lines == stored[:4][::-1]


def test_whoever_has_read_enough_ends_a_command_silently(
    run: Run, acme: str, database_url: str
) -> None:
    with RunningService(database_url) as server:
        send(server.addresses.http, acme, 5)
        with process("events", "Acme", "--follow", "--json") as follower:
            assert follower.stdout is not None
            follower.stdout.readline()
            follower.stdout.close()
            send(server.addresses.http, acme, 1)
            assert follower.wait(WAIT_SECONDS) == 0
            assert follower.stderr is not None
            assert follower.stderr.read() == ""


def test_numbers_of_any_length_can_be_read_again(run: Run, acme: str, database_url: str) -> None:
    numbers = {"beyond 64 bits": 2**64, "long": 10**300}
    with RunningService(database_url) as server:
        send(server.addresses.http, acme, 1, metadata=numbers)
        [shown] = run("events", "Acme", "--json").json()
        assert shown["metadata"] == numbers
        assert str(10**300) in run("events", "Acme").out


@pytest.mark.parametrize(
    ("moment", "zone"),
    [
        ("0001-01-01T00:00:00Z", "America/New_York"),
        ("9999-12-31T23:59:59.999999Z", "Asia/Tokyo"),
    ],
)
def test_the_first_and_the_last_moment_can_be_read_again(
    run: Run, acme: str, monkeypatch: pytest.MonkeyPatch, moment: str, zone: str, database_url: str
) -> None:
    monkeypatch.setenv("PGTZ", zone)  # in which they are in no year that Python knows
    with RunningService(database_url) as server:
        send(server.addresses.http, acme, 1, timestamp=moment)
        [shown] = run("events", "Acme", "--json").json()
        assert shown["timestamp"] == moment
        assert moment[:4] in run("events", "Acme").out
