"""The pace of one sender of a load: as fast as answered, or at moments that are fixed before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from service.bench.recorder import Recorder, now


class Pace:
    """Tells a sender when its next request is due.

    ``rate``: requests a second over all ``senders``, which take turns; None for a new request with
    each answer.
    """

    def __init__(self, recorder: Recorder, rate: float | None, number: int, senders: int) -> None:
        self._recorder = recorder
        self.interval = None if rate is None else senders / rate
        self._next_due = now() + (number / rate if rate is not None else 0.0)

    async def due(self) -> float:
        """Wait until the next request is due, or the end; returns the time at which it was due."""
        if self.interval is None:
            return now()
        intended = self._next_due
        self._next_due += self.interval
        wait = min(intended, self._recorder.ends) - now()
        if wait > 0:
            await asyncio.sleep(wait)
        return intended


def paces(recorder: Recorder, rate: float | None, senders: int) -> Iterator[Pace]:
    """The pace of each sender."""
    return (Pace(recorder, rate, number, senders) for number in range(senders))
