"""The progress of ``wepeople-ingest produce``, as a person at a terminal sees it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from service.cli.output import note, visible
from service.cli.produce.runner import ProduceRunner
from wepeople_ingest_client import ProducerMetrics, StreamProducer

if TYPE_CHECKING:
    from rich.progress import Progress

REFRESH_SECONDS: Final = 0.2


class Display:
    """A progress bar on stderr if that is a terminal, and notes above it."""

    def __init__(self, total_bytes: int | None) -> None:
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("", total=total_bytes, text="connecting")

    def note(self, text: str) -> None:
        """Show a remark, above the bar if there is one."""
        if self._bar is None:
            note(text)
        else:
            from rich.text import Text

            self._bar.console.print(Text(visible(text)), soft_wrap=True)

    def close(self) -> None:
        """Remove the bar; again is harmless."""
        if self._bar is not None:
            self._bar.stop()

    @contextlib.asynccontextmanager
    async def showing(self, runner: ProduceRunner, producer: StreamProducer) -> AsyncIterator[None]:
        """Keep the bar up to date within the block."""
        if self._bar is None:
            yield
            return
        self._bar.start()
        updating = asyncio.create_task(self._update(self._bar, runner, producer))
        try:
            yield
        finally:
            updating.cancel()
            self._show(self._bar, runner, producer.metrics, 0.0)
            self.close()

    async def _update(self, bar: Progress, runner: ProduceRunner, producer: StreamProducer) -> None:
        acked, at = 0, time.monotonic()
        rate = 0.0
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            metrics, now = producer.metrics, time.monotonic()
            latest = (metrics.acked - acked) / (now - at)
            acked, at = metrics.acked, now
            rate = latest if not rate else 0.8 * rate + 0.2 * latest
            self._show(bar, runner, metrics, rate)

    def _show(
        self, bar: Progress, runner: ProduceRunner, metrics: ProducerMetrics, rate: float
    ) -> None:
        summary = runner.summary(metrics)
        text = f"{summary.lines:,} acked"
        if not summary.all_stored:
            text += f" · {summary.rejected + summary.already_rejected:,} rejected"
        if rate:
            text += f" · {rate:,.0f} events/s"
        bar.update(self._task, completed=runner.done_bytes, text=text)
        bar.refresh()


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False, markup=False, emoji=False),
        auto_refresh=False,
    )
