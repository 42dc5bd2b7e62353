"""The output of commands: tables for people, JSON for scripts, the result on stdout either way.

Only a terminal gets styles, and no colours if ``NO_COLOR`` is set. Text from clients cannot
command the terminal: characters that do not print are shown as escapes. JSON is UTF-8 whatever
the locale; on a terminal a document is indented, otherwise it is one line.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

# Wide enough for any row: where no terminal has to fit it, a row is a line.
UNLIMITED_WIDTH: Final = 1_000_000
COLUMN_GAP: Final = "  "
MIN_FLEXIBLE_WIDTH: Final = 12


class ReaderGoneError(OSError):
    """The reader of stdout has closed it, as ``head`` does when it has enough."""


def print_json(value: object) -> None:
    """One JSON document."""
    import msgspec

    # Formatted also for one line: the JSON of clients in it can have lines of its own.
    indent = 2 if sys.stdout.isatty() else -1
    _write(msgspec.json.format(msgspec.json.encode(value), indent=indent))


def print_json_line(value: object) -> None:
    """One JSON document of many, each on a line of its own, on a terminal too."""
    import msgspec

    _write(msgspec.json.format(msgspec.json.encode(value), indent=-1))


def _write(line: bytes) -> None:
    with _reader():
        sys.stdout.flush()
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


def print_text(text: str) -> None:
    """Text exactly as it is, never wrapped, so that it can be copied."""
    with _reader():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@contextlib.contextmanager
def _reader() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise ReaderGoneError("nobody reads the output") from None


def note(text: str) -> None:
    """A remark for the person at the terminal, on stderr: it is not part of the result."""
    sys.stderr.write("".join(f"{visible(line)}\n" for line in text.splitlines()))
    sys.stderr.flush()


def visible(text: str) -> str:
    """The text with escapes for whatever does not print (control characters, line ends)."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def json_line(text: str | None) -> str:
    """A client's JSON on one line, for tables; nothing for none."""
    import msgspec

    return "" if text is None else msgspec.json.format(text, indent=0)


def moment(value: datetime | None) -> str:
    """A moment in UTC, to the second, for tables; nothing for none."""
    return "" if value is None else value.isoformat(" ", "seconds").removesuffix("+00:00")


def print_fields(fields: Mapping[str, object]) -> None:
    """The properties of one thing, one a line."""
    from rich.text import Text

    width = max(map(len, fields))
    with _page() as page:
        for name, value in fields.items():
            line = Text.assemble((name.ljust(width), "bold"), COLUMN_GAP, visible(str(value)))
            page.print(line, soft_wrap=True)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; its last column is cut where the terminal ends.

    On a terminal too narrow for the other columns, each row becomes a block of its own.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [
        max(cell_len(text) for text in column) for column in zip(headers, *cells, strict=True)
    ]
    fixed = sum(widths[:-1]) + len(COLUMN_GAP) * (len(widths) - 1)
    if fixed + min(widths[-1], MIN_FLEXIBLE_WIDTH) > _width():
        for position, row in enumerate(cells):
            if position:
                print_text("")
            print_fields(dict(zip(headers, row, strict=True)))
        return
    table = Table(box=None, pad_edge=False, padding=(0, len(COLUMN_GAP), 0, 0))
    for header, width in zip(headers[:-1], widths[:-1], strict=True):
        table.add_column(header, no_wrap=True, min_width=width)
    table.add_column(headers[-1], overflow="ellipsis")
    for row in cells:
        table.add_row(*map(Text, row[:-1]), Text(row[-1], no_wrap=True, overflow="ellipsis"))
    with _page() as page:
        page.print(table)


def print_row(cells: Sequence[str], widths: Sequence[int]) -> None:
    """A line of columns that are at least so wide, for lists that grow; cut as in a table."""
    from rich.cells import cell_len
    from rich.text import Text

    shown = [visible(cell) for cell in cells]
    padded = [
        cell + " " * (width - cell_len(cell)) for cell, width in zip(shown, widths, strict=False)
    ]
    line = COLUMN_GAP.join([*padded, *shown[len(padded) :]]).rstrip()
    with _page() as page:
        page.print(Text(line), no_wrap=True, overflow="ellipsis")


@contextlib.contextmanager
def _page() -> Iterator[Console]:
    """A console whose output is written to stdout when the block ends."""
    from rich.console import Console

    text = io.StringIO()
    yield Console(
        file=text,
        force_terminal=sys.stdout.isatty() or None,  # None: unless the environment forces it
        width=_width(),
        highlight=False,
        markup=False,
        emoji=False,
    )
    print_text(text.getvalue().removesuffix("\n"))


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED_WIDTH
