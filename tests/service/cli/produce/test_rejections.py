"""Rejected lines: on stderr or in a file."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.service.cli.produce.events_file import (
    BAD,
    Produce,
    numbered,
    stored_numbers,
    with_bad_lines,
    write,
)
from tests.support.tenant import Tenant, event


@pytest.mark.parametrize("batch", [1, 2, 4, 500])
def test_bad_lines_are_told_and_the_others_stored(
    produce: Produce, tenant: Tenant, tmp_path: Path, batch: int
) -> None:
    file = write(tmp_path / "events.ndjson", with_bad_lines())
    done = produce(file, "--json", "--batch", batch)
    assert done.code == 1
    expected = {"lines": 15, "accepted": 7, "rejected": 8}
    assert expected.items() <= done.json().items()
    told = sorted(done.err.splitlines(), key=lambda line: int(line.split(":")[0].split()[1]))
    assert len(told) == len(BAD)
    for line, (number, (text, code, message)) in zip(told, BAD.items(), strict=True):
        assert line.startswith(f"line {number}: {code}: {message}")
        if isinstance(text, str):
            assert line.endswith(f": {text}")
    assert stored_numbers(tenant) == Counter(range(7))
    # The five lines that are no event are so for every run; the server has judged the other ten.
    again = produce(file, "--json", "--batch", 3)
    assert again.code == 1
    expected = {"accepted": 0, "rejected": 5, "alreadyStored": 7, "alreadyRejected": 3}
    assert {"lines": 15, "finished": True, **expected}.items() <= again.json().items()
    *told, last = again.err.splitlines()
    assert [int(line.split(":")[0].split()[1]) for line in told] == [2, 3, 5, 6, 12]
    assert last.startswith("3 lines were rejected before")
    assert stored_numbers(tenant) == Counter(range(7))


def test_a_rejected_line_is_shown_shortened_and_cannot_command_the_terminal(
    produce: Produce, tmp_path: Path
) -> None:
    lines: list[Any] = ["no \x1b[31mjson", "x" * 500, event(eventType="a.b", category="y" * 200)]
    done = produce(write(tmp_path / "events.ndjson", lines))
    first, second, third = done.err.splitlines()
    assert first.endswith(r": no \x1b[31mjson")
    assert second.endswith(f": {'x' * 160}…")
    assert third.startswith("line 3: invalid_body: category: must be one of")
    assert third.endswith("…")
    assert '"eventType": "a.b"' in third


def test_server_rejected_lines_of_an_earlier_run_are_not_called_stored(
    produce: Produce, tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", [*numbered(4), event(eventType="a.b")])
    assert produce(file).code == 1
    again = produce(file, "--json")
    assert again.code == 1
    expected = {"accepted": 0, "rejected": 0, "alreadyStored": 4, "alreadyRejected": 1}
    assert expected.items() <= again.json().items()
    assert "1 lines were rejected before" in again.err


def test_rejected_lines_go_to_a_file_from_which_they_can_be_sent_again(
    produce: Produce, tenant: Tenant, tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", with_bad_lines())
    rejected = tmp_path / "rejected.ndjson"
    done = produce(file, "--rejected", rejected)
    assert (done.code, done.err) == (1, f"8 lines were rejected: see {rejected}.\n")
    told = {one["line"]: one for one in map(json.loads, rejected.read_text().splitlines())}
    assert sorted(told) == sorted(BAD)
    for number, (text, code, message) in BAD.items():
        assert told[number]["code"] == code
        assert told[number]["message"].startswith(message)
        if isinstance(text, str) and text.startswith("{"):
            assert told[number]["event"] == json.loads(text)
    assert told[2]["event"] == "no json"
    assert told[12]["event"] == '{"eventType": "\\xff"}'
    assert produce(file, "--rejected", rejected).code == 1
    again = [json.loads(line)["line"] for line in rejected.read_text().splitlines()[len(BAD) :]]
    assert again == [2, 3, 5, 6, 12]  # those that are no event
    asyncio.run(tenant.allow("a.b"))
    corrected = write(tmp_path / "corrected.ndjson", [told[10]["event"]])
    assert produce(corrected).code == 0


def test_nothing_but_bad_lines(produce: Produce, tenant: Tenant, tmp_path: Path) -> None:
    file = write(tmp_path / "events.ndjson", ["x"] * 10)
    for _ in range(2):
        done = produce(file, "--json", "--batch", 3)
        assert (done.code, done.json()["rejected"]) == (1, 10)
    assert asyncio.run(tenant.events()) == []


def test_an_exhausted_quota_rejects_lines(produce: Produce, tenant: Tenant, tmp_path: Path) -> None:
    asyncio.run(tenant.update(monthly_quota=7))
    done = produce(write(tmp_path / "events.ndjson", numbered(10)))
    assert done.code == 1
    told = done.err.splitlines()
    assert [line.split(": ")[:2] for line in told[:3]] == [
        [f"line {number}", "quota_exceeded"] for number in (8, 9, 10)
    ]
    assert told[3] == "The organization's quota of this month is used up."


def test_a_failure_of_the_file_of_rejected_lines_ends_it_with_the_reason(
    produce: Produce, tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", ["bad"])
    done = produce(file, "--json", "--rejected", "/dev/full")
    assert (done.code, done.json()["finished"]) == (1, False)
    assert "No space left" in done.err
