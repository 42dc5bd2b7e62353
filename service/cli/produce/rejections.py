"""The report of the lines that were rejected, for a person or in a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Final

import msgspec

from service.cli.produce.event_files import Line

MAX_SHOWN_CHARACTERS: Final = 160  # of a rejected line, on stderr


class Rejections:
    """Reports rejected lines: a note each, or a JSON object each at the end of a file."""

    def __init__(self, file: IO[bytes] | None, tell: Callable[[str], None]) -> None:
        self._file = file
        self._tell = tell

    def report(self, line: Line, code: str, message: str) -> None:
        """Report a line. It is in the file when this returns, even if the process is then killed.

        Raises OSError if the file cannot be written.
        """
        if self._file is None:
            self._tell(f"line {line.number}: {code}: {message}: {_shortened(line)}")
            return
        rejection = {"line": line.number, "code": code, "message": message, "event": _event(line)}
        self._file.write(msgspec.json.encode(rejection) + b"\n")
        self._file.flush()


def _shortened(line: Line) -> str:
    text = line.text.decode(errors="backslashreplace")
    is_all = line.is_whole and len(text) <= MAX_SHOWN_CHARACTERS
    return text if is_all else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def _event(line: Line) -> msgspec.Raw | str | None:
    """A line as JSON: itself, a string if it is no JSON, or null if it is too long."""
    if not line.is_whole:
        return None
    try:
        msgspec.json.decode(line.text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line.text.decode(errors="backslashreplace")
    return msgspec.Raw(line.text)
