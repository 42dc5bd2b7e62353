"""``wepeople-ingest produce``, in this process or as one of its own, against the real service."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import service.cli.main
from core.limits import MAX_BODY_BYTES
from grpc_api.producer import event_json
from service.cli.produce import event_files
from service.cli.produce.event_files import chunks
from tests.support.running_service import Addresses
from tests.support.tenant import FAST, Tenant, event, make_tenant

do = asyncio.run


class Result(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.out)


Produce = Callable[..., Result]


@pytest.fixture
def tenant(server: Addresses) -> Tenant:
    """An organization without a quota; not made in the test's loop, for commands have their own."""
    return do(make_tenant(server.database_url))


@pytest.fixture
def produce(server: Addresses, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Produce:
    """Runs the command in this process, with the tenant's key, against the shared server."""
    monkeypatch.setenv("WEPEOPLE_API_KEY", tenant.key)

    def main(*arguments: object) -> Result:
        given = ["wepeople-ingest", "produce", "--server", server.grpc, *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", given)
        out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        code: Any = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                service.cli.main.main()
            except SystemExit as exit_:
                code = exit_.code or 0
        said = [stream.buffer.getvalue().decode() for stream in (out, err)]
        return Result(code, *said)

    return main


def command(server: Addresses, *arguments: object) -> list[str]:
    program = [sys.executable, "-m", "service.cli", "produce", "--server", server.grpc]
    return [*program, *map(str, arguments)]


@contextlib.contextmanager
def process(
    server: Addresses, tenant: Tenant, *arguments: object, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own, which does not outlive the block."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "WEPEOPLE_API_KEY": tenant.key}
    with subprocess.Popen(
        command(server, *arguments), text=True, env=environment, **pipes
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def write(path: Path, lines: Sequence[str | bytes | dict[str, Any]]) -> Path:
    with path.open("wb") as file:
        for line in lines:
            text = json.dumps(line) if isinstance(line, dict) else line
            file.write(text.encode() if isinstance(text, str) else text)
            file.write(b"\n")
    return path


def numbered(count: int) -> list[dict[str, Any]]:
    return [event(metadata={"n": n}) for n in range(count)]


def stored_numbers(tenant: Tenant) -> Counter[int]:
    return Counter(json.loads(row["metadata"])["n"] for row in do(tenant.events()))


def wait_for_events(tenant: Tenant, least: int) -> int:
    deadline = time.monotonic() + 60
    while (stored := len(do(tenant.events()))) < least:
        assert time.monotonic() < deadline, f"only {stored} events came"
        time.sleep(0.02)
    return stored


def test_every_line_is_stored_once_however_often_it_is_run(
    produce: Produce, tenant: Tenant, tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", numbered(1_234))
    first = produce(file, "--json")
    assert (first.code, first.err) == (0, "")
    said = first.json()
    expected = {"lines": 1_234, "accepted": 1_234, "rejected": 0, "alreadyStored": 0}
    assert expected.items() <= said.items()
    assert said["alreadyRejected"] == 0
    assert said["finished"] is True
    again = produce(file, "--json")
    assert again.code == 0
    assert {"accepted": 0, "alreadyStored": 1_234}.items() <= again.json().items()
    assert again.json()["producerId"] == said["producerId"]
    assert stored_numbers(tenant) == Counter(range(1_234))


def test_the_summary_is_for_people_too(produce: Produce, tmp_path: Path) -> None:
    done = produce(write(tmp_path / "events.ndjson", numbered(3)))
    assert done.code == 0
    fields = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert fields["accepted"] == "3"
    assert fields["rejected"] == "0"


def test_another_id_stores_the_file_once_more(
    produce: Produce, tenant: Tenant, tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", numbered(5))
    for producer_id in ("one", "two", "one"):
        assert produce(file, "--producer-id", producer_id).code == 0
    assert stored_numbers(tenant) == Counter(list(range(5)) * 2)


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
    first, second = do(tenant.events())
    assert first["metadata"] == '{"n" : 1.10000000000000000001, "t": "ä\\u00e4"}'
    assert first["occurred_at"].isoformat() == "2026-04-19T12:05:00.250000+00:00"
    assert first["duration_seconds"] == 240
    assert abs(second["occurred_at"].timestamp() - time.time()) < 60


BAD: dict[int, tuple[str | bytes, str, str]] = {
    2: ("no json", "invalid_body", "is not JSON: invalid character"),
    3: ("[1]", "invalid_body", "must be an object"),
    5: (json.dumps(event(duration="x")), "invalid_body", "duration: must be an integer"),
    6: (json.dumps(event(timestamp="soon")), "invalid_body", "timestamp: must be an RFC 3339"),
    8: (json.dumps(event(duration=86_401)), "invalid_body", "duration: must be at most 86400"),
    9: (json.dumps(event(actor={})), "missing_actor", "actor: must have"),
    10: (json.dumps(event(eventType="a.b")), "forbidden_event_type", "eventType: 'a.b' is not"),
    12: (b'{"eventType": "\xff"}', "invalid_body", "must be UTF-8"),
}


def with_bad_lines() -> list[str | bytes | dict[str, Any]]:
    """Fifteen lines; a batch of two has none that can be sent."""
    good = iter(numbered(100))
    return [BAD[number][0] if number in BAD else next(good) for number in range(1, 16)]


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
    do(tenant.allow("a.b"))
    corrected = write(tmp_path / "corrected.ndjson", [told[10]["event"]])
    assert produce(corrected).code == 0


def test_nothing_but_bad_lines(produce: Produce, tenant: Tenant, tmp_path: Path) -> None:
    file = write(tmp_path / "events.ndjson", ["x"] * 10)
    for _ in range(2):
        done = produce(file, "--json", "--batch", 3)
        assert (done.code, done.json()["rejected"]) == (1, 10)
    assert do(tenant.events()) == []


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


def test_an_exhausted_quota_rejects_lines(produce: Produce, tenant: Tenant, tmp_path: Path) -> None:
    do(tenant.update(monthly_quota=7))
    done = produce(write(tmp_path / "events.ndjson", numbered(10)))
    assert done.code == 1
    told = done.err.splitlines()
    assert [line.split(": ")[:2] for line in told[:3]] == [
        [f"line {number}", "quota_exceeded"] for number in (8, 9, 10)
    ]
    assert told[3] == "The organization's quota of this month is used up."


# --- interrupted and run again -------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on_where_it_was(
    server: Addresses, produce: Produce, tmp_path: Path, how: signal.Signals
) -> None:
    # Slow, so that much is left however late the signal comes.
    tenant = do(make_tenant(server.database_url, requests_per_second=20))
    lines: list[Any] = ["bad", *numbered(2_400), "bad"]
    file = write(tmp_path / "events.ndjson", lines)
    key = tmp_path / "key"
    key.write_text(f"{tenant.key}\n")
    rejected = tmp_path / "rejected.ndjson"
    arguments = (file, "--batch", 10, "--json", "--key-file", key, "--rejected", rejected)
    with process(server, tenant, *arguments) as started:
        wait_for_events(tenant, 520)
        started.send_signal(how)
        out, err = started.communicate(timeout=30)
    stored = len(do(tenant.events()))
    assert 520 <= stored < 2_400
    if how is not signal.SIGKILL:
        assert started.returncode == 1
        said = json.loads(out)
        assert (said["finished"], said["accepted"]) == (False, stored)
        assert "Run the same command again" in err
    do(tenant.update(requests_per_second=FAST))
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
    with process(server, tenant, "-", "--producer-id", "me", stdin=subprocess.PIPE) as started:
        assert started.stdin is not None
        started.stdin.write(json.dumps(event()) + "\n")
        started.stdin.flush()
        while not do(tenant.rows("SELECT 1 FROM producers WHERE app_id = %s", tenant.app.id)):
            time.sleep(0.02)
        began = time.monotonic()
        started.send_signal(signal.SIGINT)
        assert started.wait(20) == 1  # although standard input is open and its reader waits
        assert time.monotonic() - began < 4
        assert started.stderr is not None
        assert "interrupted" in started.stderr.read()


def test_lines_from_a_pipe(server: Addresses, tenant: Tenant) -> None:
    text = "".join(json.dumps(line) + "\n" for line in numbered(2_000))
    arguments = ("-", "--producer-id", "export-7", "--json")
    for already, accepted in ((0, 2_000), (2_000, 0)):
        with process(server, tenant, *arguments, stdin=subprocess.PIPE) as started:
            out, err = started.communicate(text, timeout=60)
        assert (started.returncode, err) == (0, "")
        said = json.loads(out)
        assert (said["alreadyStored"], said["accepted"]) == (already, accepted)
        assert said["producerId"] == "export-7"
    assert stored_numbers(tenant) == Counter(range(2_000))


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
    tenant = do(make_tenant(server.database_url, key_requests_per_second=50))
    file = write(tmp_path / "events.ndjson", numbered(600))
    (key := tmp_path / "key").write_text(tenant.key)
    with process(server, tenant, file, "--batch", 7, "--key-file", key) as started:
        wait_for_events(tenant, 100)
        started.kill()
    again = produce(file, "--batch", 50, "--key-file", key, "--json").json()
    assert again["accepted"] + again["alreadyStored"] == 600
    assert stored_numbers(tenant) == Counter(range(600))


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


# --- failures and usage --------------------------------------------------------------------------


def test_a_revoked_key_ends_it_with_the_reason(
    produce: Produce, tenant: Tenant, tmp_path: Path
) -> None:
    do(tenant.revoke())
    done = produce(write(tmp_path / "events.ndjson", numbered(1)), "--json")
    assert done.code == 1
    assert {"finished": False, "lines": 0, "accepted": 0}.items() <= done.json().items()
    assert "KEY_REVOKED" in done.err.splitlines()[0]


def test_a_failure_of_the_file_of_rejected_lines_ends_it_with_the_reason(
    produce: Produce, tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", ["bad"])
    done = produce(file, "--json", "--rejected", "/dev/full")
    assert (done.code, done.json()["finished"]) == (1, False)
    assert "No space left" in done.err


def test_a_server_that_is_not_there(server: Addresses, tenant: Tenant, tmp_path: Path) -> None:
    file = write(tmp_path / "events.ndjson", numbered(1))
    nowhere = Addresses("", "127.0.0.1:1", "")
    with process(nowhere, tenant, file, "--patience", "1s") as started:
        out, err = started.communicate(timeout=30)
    assert (started.returncode, out) == (1, "")
    assert "Connection refused" in err
    assert "given up after 1 s" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-"], "is needed for what can be read only once"),
        (["{missing}"], "No such file"),
        (["{folder}"], "is a folder"),
        (["{file}", "--batch", "501"], "--batch"),
        (["{file}", "--server", "here"], "is not HOST:PORT"),
        (["{file}", "--key-file", "{empty}"], "there is no API key"),
        (["{file}", "--ca", "{file}", "--insecure"], "contradicts --ca"),
    ],
)
def test_wrong_usage(produce: Produce, tmp_path: Path, arguments: list[str], message: str) -> None:
    paths = {
        "file": write(tmp_path / "events.ndjson", numbered(1)),
        "missing": tmp_path / "missing",
        "folder": tmp_path,
        "empty": write(tmp_path / "empty", []),
    }
    done = produce(*(argument.format(**paths) for argument in arguments))
    assert (done.code, done.out) == (2, "")
    assert message in " ".join(done.err.split())


def test_without_a_key(produce: Produce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEPEOPLE_API_KEY")
    done = produce(write(tmp_path / "events.ndjson", numbered(1)))
    assert done.code == 2
    assert "WEPEOPLE_API_KEY" in done.err


def test_a_terminal_sees_how_far_it_is(server: Addresses, tmp_path: Path) -> None:
    tenant = do(make_tenant(server.database_url, key_requests_per_second=50))
    file = write(tmp_path / "events.ndjson", [*numbered(700), "bad\x1b]0;title\x07"])
    ours, theirs = pty.openpty()
    try:
        with process(server, tenant, file, "--batch", 10, stderr=theirs) as started:
            os.close(theirs)
            shown = b""
            with contextlib.suppress(OSError):  # as the other end of a terminal is closed
                while piece := os.read(ours, 4_096):
                    shown += piece
            out, _ = started.communicate(timeout=30)
    finally:
        os.close(ours)
    assert started.returncode == 1
    assert "accepted" in out
    text = shown.decode()
    assert "700 acked" in text.replace("701", "700")
    assert "events/s" in text
    assert "line 701: invalid_body" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_an_interrupt_before_anything_is_sent_is_a_failure_with_its_reason(
    produce: Produce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("service.cli.commands.produce._key", interrupt)
    done = produce(write(tmp_path / "events.ndjson", numbered(1)), "--json")
    assert (done.code, done.out, done.err) == (1, "", "wepeople-ingest: interrupted\n")
