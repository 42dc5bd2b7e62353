"""``wepeople-ingest usage``; beside a server: test_beside_a_server.py."""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.service.cli.command import Run


def test_the_forecast_is_of_the_month_so_far(
    run: Run, acme: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    april_11_us = 1_775_865_600_000_000
    monkeypatch.setattr("service.cli.commands.usage.now_us", lambda: april_11_us)
    with psycopg.connect(database_url) as db:
        db.execute("UPDATE organizations SET created_at = '2026-01-01'")
        db.execute("INSERT INTO quota_usage SELECT id, '2026-04-01', 5, 0 FROM organizations")
    assert run("usage", "Acme", "--json").json()["forecast"] == {
        "events": 15,
        "quotaEndsOn": "2026-04-21",
    }
    shown = run("usage", "Acme").out
    assert re.search("forecast +15 by the end of the month.* ends on 2026-04-21\n", shown)
    run("org", "update", "Acme", "--quota", "none")
    assert run("usage", "Acme", "--json").json()["forecast"]["quotaEndsOn"] is None
    assert re.search("forecast +15 by the end of the month\n", run("usage", "Acme").out)


def test_minutes_without_traffic_are_none(run: Run, acme: str) -> None:
    shown = run("usage", "Acme", "--minutes", "60")
    assert (shown.code, "no traffic" in shown.err) == (0, True)
    assert "none in the first day" in shown.out
    assert run("usage", "Acme", "--minutes", "60", "--json").json()["minutes"] == []
    assert "minutes" not in run("usage", "Acme", "--json").json()


@pytest.mark.parametrize("minutes", ["0", "2881"])
def test_more_minutes_than_are_kept_are_wrong_usage(run: Run, acme: str, minutes: str) -> None:
    refused = run("usage", "Acme", "--minutes", minutes)
    assert refused.code == 2
    assert "--minutes" in refused.err
