"""The lines of a file as the service stores them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core.limits import MAX_BODY_BYTES
from service.cli.produce import event_files
from service.cli.produce.event_files import chunks
from tests.service.cli.produce.events_file import (
    Produce,
    numbered,
    stored_numbers,
    write,
)
from tests.support.tenant import Tenant, event
from wepeople_ingest_client.stream import event_json


def test_what_a_line_says_is_stored_as_it_is(
    produce: Produce, tenant: Tenant, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "events.ndjson",
        [
            (
                b'\xef\xbb\xbf{"eventType": "deal.won", "category": "code", "duration": 240.0,'
                b' "x": 1,'
                b' "actor": {"email": "a@b.example"}, "timestamp": "2026-04-19T14:05:00.25+02:00",'
                b' "metadata": {"n" : 1.10000000000000000001, "t": "\xc3\xa4\\u00e4"}}\r'
            ),
            "",
            "   \t ",
            event(),
        ],
    )
    done = produce(file, "--json")
    assert (done.code, done.json()["lines"]) == (0, 2)
    first, second = asyncio.run(tenant.events())
    assert first["metadata"] == '{"n":1.10000000000000000001,"t":"ää"}'
    assert first["occurred_at"].isoformat() == "2026-04-19T12:05:00.250000+00:00"
    assert first["duration_seconds"] == 240
    assert abs(second["occurred_at"].timestamp() - time.time()) < 60


def test_an_empty_file(produce: Produce, tmp_path: Path) -> None:
    done = produce(write(tmp_path / "events.ndjson", []), "--json")
    assert (done.code, done.json()["lines"]) == (0, 0)


def test_long_lines(
    produce: Produce, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = event(metadata={"n": 0, "filling": "x" * 16_000})
    lines: list[Any] = [dict(big, metadata=dict(big["metadata"], n=n)) for n in range(150)]
    lines[70] = event(metadata={"filling": "x" * 2 * MAX_BODY_BYTES})
    done = produce(write(tmp_path / "events.ndjson", lines), "--json")
    assert done.json()["accepted"] == 149
    told = f"line 71: invalid_body: must be at most {event_files.MAX_LINE_BYTES} bytes: {{"
    assert done.err.startswith(told)
    assert done.err.endswith("…\n")
    assert len(done.err) < 300
    assert stored_numbers(tenant) == Counter(n for n in range(150) if n != 70)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'{"actor":{}}',
        b'{"actor":{"email":""}}',
        b'{"duration":-1}',
        b'{"duration":-9223372036854775807}',
        b'{"timestamp":"0001-01-01T00:00:00.000001Z"}',
        b'{"metadata":1}',
        b'{"eventType":"a","category":"b"}',
        '{"eventType":"ä€😀"}'.encode(),
        b'{"metadata":{"x":"' + b"x" * 20_000 + b'"}}',
    ],
)
def test_no_event_is_larger_in_a_message_than_in_its_line(line: bytes) -> None:
    # Or else a batch bounded by its lines could be too large for a message.
    assert event_json.from_text(line).ByteSize() <= len(line)


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    file = write(tmp_path / "events.ndjson", numbered(10))
    with file.open("rb") as source:
        expected = event_files.fingerprint(source)
        source.seek(0)
        with file.open("ab") as more:
            more.write(b"more\n")
        read = list(chunks(source, 4, expected))  # what was added is left for another time
        assert [len(chunk.lines) for chunk in read] == [4, 4, 2]
        assert read[-1].end == expected[1]
    file.write_bytes(file.read_bytes().replace(b'"n": 9', b'"n": 8'))
    with file.open("rb") as source, pytest.raises(event_files.FileChangedError):
        list(chunks(source, 4, expected))
