"""Structured logs: one JSON object a line on stderr."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Final

# No error may put a key into a log.
_KEY: Final = re.compile(r"wp_live_[0-9A-Za-z]+")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "asctime"}


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
        return _KEY.sub("wp_live_***", json.dumps(line, default=str, ensure_ascii=False))


def _message(record: logging.LogRecord) -> str:
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(**members))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Their lines of level info repeat those of the service.
    for chatty in ("uvicorn", "uvicorn.error", "psycopg.pool", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
