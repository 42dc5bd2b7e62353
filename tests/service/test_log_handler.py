"""The log when nobody reads it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.log_handler import MAX_WAITING_BYTES, BackgroundHandler
from service.logs import JsonFormatter
from tests.support.service_process import ServiceProcess
from tests.support.waiting import wait_until

LINE = "x" * 1_000
PIPE_BYTES = 65_536

pytestmark = pytest.mark.timeout(60)  # a fault would wait for ever


class Log:
    """A logger whose lines go to a pipe."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.handler = BackgroundHandler(writer)
        self.handler.setFormatter(JsonFormatter())
        self.logger = logging.getLogger(__name__)
        self.logger.handlers[:] = [self.handler]
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        self._writer = writer

    def waiting(self) -> int:
        """The bytes that wait to be written."""
        with self.handler._changed:
            return self.handler._waiting_bytes

    def end(self) -> None:
        """Have the thread end, and close the pipe's other side after what it has written."""
        self.handler.close()
        self.handler._thread.join()
        os.close(self._writer)

    def read(self, begun: bytes = b"") -> list[str]:
        """All messages, up to the end of the log; ``begun`` was read before."""
        with ThreadPoolExecutor() as threads:
            threads.submit(self.end)
            parts = [begun, *iter(lambda: os.read(self.reader, PIPE_BYTES), b"")]
        return [json.loads(line)["message"] for line in b"".join(parts).splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    os.close(log.reader)


def test_lines_come_whole_and_in_their_order(log: Log) -> None:
    sent = [f"{number} {LINE[: number % 200]}" for number in range(2_000)]
    for message in sent:
        log.logger.info(message)
    assert log.read() == sent


def test_nobody_waits_for_a_reader_and_what_is_lost_is_counted(log: Log) -> None:
    count = 2 * MAX_WAITING_BYTES // len(LINE)
    for _ in range(count):
        log.logger.info(LINE)
    log.handler.flush()  # waits no longer than it may
    begun = os.read(log.reader, PIPE_BYTES)
    wait_until(lambda: log.waiting() < MAX_WAITING_BYTES - 2 * len(LINE), "there is room again")
    log.logger.info("the last")
    *messages, last = log.read(begun)
    assert last == "the last"
    kept = messages.count(LINE)
    counts = [message.split(maxsplit=1) for message in messages if message != LINE]
    assert {words for _, words in counts} == {
        "lines of the log were lost: nobody read them in time"
    }
    assert kept + sum(int(number) for number, _ in counts) == count
    assert MAX_WAITING_BYTES / 2 < kept * len(LINE) < MAX_WAITING_BYTES + 2 * PIPE_BYTES


def test_a_reader_that_has_gone_costs_lines_only(log: Log) -> None:
    reader, log.reader = log.reader, os.open(os.devnull, os.O_RDONLY)
    os.close(reader)
    log.logger.info("lost")
    log.logger.info("lost too")
    wait_until(lambda: not log.waiting(), "both are tried")
    assert log.handler._lost == 2
    log.end()


def test_a_service_whose_log_nobody_reads_serves_and_stops(
    database_url: str, tmp_path: Path
) -> None:
    service = ServiceProcess(tmp_path, DATABASE_URL=database_url, WEPEOPLE_LOG_LEVEL="debug")
    os.mkfifo(service.log)
    pipe = os.open(service.log, os.O_RDWR | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:  # until there is room for nothing more
            os.write(pipe, LINE.encode())
    try:
        service.start()
        assert httpx.get(f"{service.url}/readyz", timeout=10).status_code == 200
        assert service.terminate() == 0
    finally:
        service.kill()
        os.close(pipe)


def test_what_cannot_be_written_as_a_line_does_not_fail_who_logs_it(log: Log) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    log.logger.error("it failed", exc_info=Odd())
    log.logger.error("next")
    assert log.read() == ["a line of the log could not be made: ValueError", "next"]
