"""The log's way to stderr, on which nobody waits for whoever reads it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import Final

MAX_WAITING_BYTES: Final = 1_048_576  # of lines that the reader of stderr has not taken
FLUSH_SECONDS: Final = 1.0  # that the end of the process waits for them


class BackgroundHandler(logging.Handler):
    """Writes lines to a file descriptor in a thread of its own.

    A pipe that its reader leaves full would otherwise stop the event loop, and with it every
    request. Lines wait in memory up to ``MAX_WAITING_BYTES``. One more is lost, as is one that
    cannot be written; the next line that is not lost comes after one that has their number.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()  # the first one is being written
        self._waiting_bytes = 0
        self._lost = 0
        self._closed = False
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """Make the one lock: with two, what logs in the middle of a write could wait for ever.

        It is reentrant, as the garbage collector can log in the middle of what it guards.
        """
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)

    def emit(self, record: logging.LogRecord) -> None:
        """Have the record written; returns at once, and raises nothing."""
        try:
            line = self._line(record)
        except Exception as error:
            line = self._line(_unwritable_record(record, error))
        with self._changed:
            if self._closed or self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
                self._lost += 1
                return
            if self._lost:
                line = self._line(_lost_record(self._lost)) + line
                self._lost = 0
            self._lines.append(line)
            self._waiting_bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, for ``FLUSH_SECONDS`` at most."""
        deadline = time.monotonic() + FLUSH_SECONDS
        with self._changed:
            while self._lines and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def close(self) -> None:
        """End the thread once it has written what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"

    def _write_all(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    if self._closed:
                        return
                    self._changed.wait()
                line = self._lines[0]
            is_written = self._write(line)
            with self._changed:
                self._lines.popleft()
                self._waiting_bytes -= len(line)
                self._lost += not is_written
                self._changed.notify_all()

    def _write(self, line: bytes) -> bool:
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:  # the reader is gone, or the disk is full
            return False
        return True


def _unwritable_record(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": record.name,
            "levelno": record.levelno,
            "levelname": record.levelname,
            "msg": "a line of the log could not be made: %s",
            "args": (type(error).__name__,),
        }
    )


def _lost_record(count: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": __name__,
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "%d lines of the log were lost: nobody read them in time",
            "args": (count,),
        }
    )
