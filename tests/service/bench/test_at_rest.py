"""The run at rest: an event at a time, compared with a ping and an INSERT of the same round."""

from __future__ import annotations

import pytest

from tests.service.cli.command import run_here
from tests.service.cli.commands.test_bench import check_line, organizations, run
from tests.support.running_service import Addresses


def test_an_event_at_rest_is_compared_with_a_ping_and_an_insert(server: Addresses) -> None:
    report = run(
        *("--server", server.http, "--server", server.grpc, "--protocol", "at-rest"),
        *("--seconds", "1", "--rounds", "3"),
        DATABASE_URL=server.database_url,
    )
    lines = {line["name"]: line for line in report["measurements"]}
    assert set(lines) == {"insert", "ping_http", "rest_http", "ping_grpc", "rest_grpc"}
    for line in lines.values():
        check_line(line, 3)
        assert line["requestsPerSecond"] <= 220
    for whole, parts in (
        ("rest_http", ["ping_http", "insert"]),
        ("rest_grpc", ["ping_grpc", "insert"]),
    ):
        assert lines[whole]["parts"] == parts
        for percentile, ratio in lines[whole]["latencyRatio"].items():
            rounds = [lines[name]["rounds"] for name in (whole, *parts)]
            ratios = sorted(
                event["latencyMs"][percentile]
                / sum(part["latencyMs"][percentile] for part in others)
                for event, *others in zip(*rounds, strict=True)
            )
            assert ratio == pytest.approx(ratios[1], abs=0.001)  # the median of each round's
    assert organizations(server.database_url) == []


def test_at_rest_needs_both_addresses(server: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", server.database_url)
    options = ("--server", server.http, "--protocol", "at-rest", "--seconds", "0.5")
    code, out, err = run_here(monkeypatch, "bench", *options)
    assert (code, out) == (1, "")
    assert "--server" in err
    assert organizations(server.database_url) == []
