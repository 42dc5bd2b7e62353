"""Structured logs: one JSON object a line on stderr, without keys and without values of rows."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections import OrderedDict
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

from core.clock import Clock
from core.failure_log import one_line, stack
from service.log_handler import BackgroundHandler

REPEAT_SECONDS: Final = 1.0  # between two lines of the same warning
MAX_WARNINGS: Final = 1_000  # that are remembered

# No error may put a key into a log.
_KEY: Final = re.compile(r"wp_live_[0-9A-Za-z]+")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "asctime"}


_ExceptionInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class JsonFormatter(logging.Formatter):
    """``{"time", "level", "logger", "message", …extra, "exception"?}``, with keys blacked out.

    ``members`` are in every line.
    """

    def __init__(self, **members: object) -> None:
        super().__init__()
        self._members = members

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        line |= self._members
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _KEY.sub("wp_live_***", json.dumps(line, default=_plain, ensure_ascii=False))

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - logging's name
        """The traceback, with no values of rows."""
        return "" if ei[1] is None else stack(ei[1])


class RepeatedWarnings(logging.Filter):
    """Lets a warning pass once in ``REPEAT_SECONDS``, however often it is logged.

    Warnings of one logger and one text are the same; the members of a line, such as the request id,
    do not tell them apart. The next line that passes has the number of those that did not, as
    ``repeated``. Other levels pass.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._next_at: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._repeated: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if record.levelno != logging.WARNING:
            return True
        now, warning = self._clock.monotonic(), (record.name, _message(record))
        if now < self._next_at.get(warning, now):
            self._repeated[warning] = self._repeated.get(warning, 0) + 1
            return False
        if repeated := self._repeated.pop(warning, 0):
            vars(record)["repeated"] = repeated
        self._next_at[warning] = now + REPEAT_SECONDS
        self._next_at.move_to_end(warning)
        if len(self._next_at) > MAX_WARNINGS:
            self._repeated.pop(self._next_at.popitem(last=False)[0], None)
        return True


def _plain(value: object) -> str:
    return one_line(value) if isinstance(value, BaseException) else str(value)


def _message(record: logging.LogRecord) -> str:
    given = record.args if isinstance(record.args, tuple) else ()
    errors = [one for one in given if isinstance(one, BaseException)]
    if record.exc_info and record.exc_info[1] is not None:
        errors.append(record.exc_info[1])
    text = _text(record)
    for error in errors:  # asyncio puts the repr of a task into its message, and the error's in it
        for spelled in (str(error), repr(error)):
            text = text.replace(spelled, one_line(error)) if spelled else text
    return text


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # logging itself would print the arguments, with whatever is in them
        return f"{record.msg} {record.args}"


def configure_logs(level: str, **members: object) -> None:
    """Send the process's logs to stderr as JSON lines, each with these members.

    To be called before grpc is imported: its library would write there in a form of its own, about
    each TLS handshake that fails for one. An operator who wants that sets ``GRPC_VERBOSITY``.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # server processes inherit it
    handler = BackgroundHandler(sys.stderr.fileno())
    handler.setFormatter(JsonFormatter(**members))
    handler.addFilter(RepeatedWarnings(Clock()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Their lines of level info repeat those of the service.
    for chatty in ("uvicorn", "uvicorn.error", "psycopg.pool", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
