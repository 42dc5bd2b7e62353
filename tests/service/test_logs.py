"""Logs: one JSON object a line, and never a key."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from core.access.api_keys import generate_key
from service.logs import (
    MAX_WARNINGS,
    REPEAT_SECONDS,
    JsonFormatter,
    RepeatedWarnings,
    configure_logs,
)
from tests.support.database import connect
from tests.support.manual_time import ManualTime
from tests.support.running_service import RunningService
from tests.support.tenant import event, make_tenant

VALUE = "somebody@example.com"
LEVELS = ("", "uvicorn", "uvicorn.error", "psycopg.pool", "asyncio")


@pytest.fixture
def root() -> Iterator[None]:
    """Puts the process's logging back."""
    root = logging.getLogger()
    before = root.handlers[:], [logging.getLogger(name).level for name in LEVELS]
    yield
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers[:] = before[0]
    for name, level in zip(LEVELS, before[1], strict=True):
        logging.getLogger(name).setLevel(level)


def flush() -> None:
    """Wait until all lines are written."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class Log:
    """A logger of its own, and the lines that come out."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)
        self.handler.setFormatter(JsonFormatter())
        self.logger = logging.getLogger("test")
        self.logger.handlers[:] = [self.handler]
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        assert self.text.endswith("\n")
        return [json.loads(line) for line in self.text[:-1].split("\n")]


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_line_is_an_object(log: Log) -> None:
    log.logger.info("hello %s", "world", extra={"request_id": "req_1", "milliseconds": 1.5})
    (line,) = log.lines
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "test",
        "message": "hello world",
        "request_id": "req_1",
        "milliseconds": 1.5,
    }


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", '"{', "\0\x1b[31m", "é😀", "\u2028", "\ud800"])
def test_whatever_is_logged_is_one_line(log: Log, text: str) -> None:
    log.logger.warning("%s", text, extra={"extra": text})
    (line,) = log.lines
    assert line["message"] == line["extra"] == text


def test_an_exception_is_part_of_its_line(log: Log) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.logger.exception("failed")
    (line,) = log.lines
    assert line["message"] == "failed"
    assert "ValueError: first\nsecond" in line["exception"]
    assert "test_logs.py" in line["exception"]


def test_what_json_cannot_say_is_said_as_text(log: Log) -> None:
    log.logger.info("x", extra={"extra": {1, 2}, "error": ValueError("no")})
    assert log.lines[0]["extra"] == "{1, 2}"
    assert log.lines[0]["error"] == "no"


def test_a_key_never_appears(log: Log) -> None:
    key = generate_key()
    try:
        try:
            raise KeyError(key)
        except KeyError as error:
            raise RuntimeError(f"no {key}") from error
    except RuntimeError:
        log.logger.exception("Bearer %s", key, extra={"authorization": f"Bearer {key}"})
    log.logger.info({"header": key})
    log.logger.info("%r", [key.encode(), key.upper().replace("WP_LIVE", "wp_live")])
    log.logger.info("x", extra={key: [key]})
    assert len(log.lines) == 4
    assert key[-8:] not in log.text.lower()
    assert log.text.count("wp_live_***") >= 7


def test_a_record_that_does_not_fit_its_arguments_is_still_a_line() -> None:
    key = generate_key()
    record = logging.LogRecord("test", logging.INFO, "", 0, "%d", (key,), None)
    line = JsonFormatter().format(record)
    assert "%d" in json.loads(line)["message"]
    assert key not in line


def test_a_warning_is_logged_once_a_second_with_a_count(log: Log) -> None:
    time = ManualTime()
    log.handler.addFilter(RepeatedWarnings(time.clock))

    def refuse(count: int, reason: str = "full") -> None:
        for number in range(count):
            log.logger.warning("refused: %s", reason, extra={"request_id": f"req_{number}"})

    refuse(100)
    refuse(1, "away")
    log.logger.error("refused: full")
    assert [(line["message"], line.get("repeated")) for line in log.lines] == [
        ("refused: full", None),
        ("refused: away", None),
        ("refused: full", None),
    ]
    time.advance(REPEAT_SECONDS)
    refuse(2)
    assert [line.get("repeated") for line in log.lines[3:]] == [99]
    for number in range(MAX_WARNINGS):
        refuse(1, str(number))
    refuse(1)  # forgotten by now
    assert log.lines[-1].get("repeated") is None


@pytest.mark.anyio
async def test_asyncio_repeats_no_value_of_a_row(log: Log, database_url: str) -> None:
    async def fail() -> None:
        async with await connect(database_url) as db:
            await db.execute("SELECT %s::int", (VALUE,))

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    error = task.exception()
    assert error is not None
    assert VALUE in repr(task)
    log.logger.error(
        "Task exception was never retrieved\nfuture: %r", task, exc_info=error, extra={"e": error}
    )
    log.logger.warning("%s %r", error, error)
    assert VALUE not in log.text
    assert log.text.count("InvalidTextRepresentation") >= 4


@pytest.mark.usefixtures("root")
def test_logs_go_to_stderr_from_their_level_on(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("WARNING")
    logging.getLogger("core.journal.journal").info("not this")
    logging.getLogger("core.journal.journal").warning("this")
    logging.getLogger("uvicorn.error").info("nor this")
    flush()
    out, err = capfd.readouterr()
    assert out == ""
    assert [json.loads(line)["message"] for line in err.splitlines()] == ["this"]


@pytest.mark.usefixtures("root")
@pytest.mark.anyio
async def test_an_internal_error_is_found_by_its_request_id(
    database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logs("DEBUG")
    tenant = await make_tenant(database_url)
    headers = {"Authorization": f"Bearer {tenant.key}"}
    with RunningService(database_url) as service:
        async with httpx.AsyncClient(base_url=service.addresses.http, headers=headers) as client:
            await tenant.rows("ALTER TABLE events ADD CONSTRAINT no CHECK (event_type = 'none')")
            path = "/api/v1/ingest/events"
            refused = await client.post(path, json={"events": [event(metadata={"a": VALUE})]})
            await tenant.rows("ALTER TABLE directory_keys RENAME TO gone")
            unknown = {"Authorization": f"Bearer {generate_key()}"}
            crashed = await client.get("/api/v1/ingest/ping", headers=unknown)
    await tenant.rows("ALTER TABLE gone RENAME TO directory_keys")
    flush()
    err = capfd.readouterr().err
    lines = [json.loads(line) for line in err.splitlines()]
    for response in (refused, crashed):
        assert response.status_code == 500
        request_id = response.headers["x-request-id"]
        told = [
            line
            for line in lines
            if request_id in (line.get("request_id"), *line["message"].split())
            and line["level"] == "error"
        ]
        assert told, "nothing is logged about it"
        assert any("Traceback" in line["exception"] for line in told if "exception" in line)
    assert "violates check constraint" in err
    assert VALUE not in err
    assert tenant.key not in err
    assert unknown["Authorization"].split()[1] not in err
