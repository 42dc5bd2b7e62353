"""The progress of a measurement: a line on stderr, if that is a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from service.cli.output import note, visible

if TYPE_CHECKING:
    from rich.progress import Progress


class Display:
    """The progress of a run; silent without a terminal."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("", total=None, text="starting")
            self._bar.start()
        self._title = ""
        self._events = 0
        self._at = 0.0

    def note(self, text: str) -> None:
        """A remark for the person, on a terminal only."""
        if self._bar is not None:
            self._bar.console.print(visible(text), soft_wrap=True)

    def begin(self, title: str, seconds: float) -> None:
        """Begin another measurement."""
        self._title, self._events, self._at = title, 0, time.monotonic()
        if self._bar is not None:
            self._bar.reset(self._task, total=seconds, text=f"{title}: warming up")
            self._bar.refresh()

    def warm(self) -> None:
        """The measured time begins."""
        self._at = self._began = time.monotonic()

    def progress(self, events: int) -> None:
        """Show the number of events since the warm-up, and their rate."""
        if self._bar is None:
            return
        at = time.monotonic()
        rate = (events - self._events) / max(at - self._at, 0.001)
        self._events, self._at = events, at
        text = f"{self._title}: {rate:,.0f} events/s"
        self._bar.update(self._task, completed=at - self._began, text=text)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    def interrupted(self) -> None:
        """Note on stderr, terminal or not, that the run ends early."""
        self.close()
        note("Interrupted; removing what was made. This takes a moment.")


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        BarColumn(20),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(stderr=True, highlight=False, markup=False, emoji=False),
        auto_refresh=False,
        transient=True,
    )
