"""The pace of one sender of a load: as fast as answered, or at moments that are fixed before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from service.bench.recorder import Recorder, now


class Pace:
    """Tells a sender when its next request is due.

    ``rate``: requests a second over all ``senders``, which take turns; None for a new request with
    each answer. ``skip_missed``: whether moments that pass while a sender waits for an answer are
    left out; else it makes up for them.
    """

    def __init__(
        self,
        recorder: Recorder,
        rate: float | None,
        number: int,
        senders: int,
        skip_missed: bool,
    ) -> None:
        self._recorder = recorder
        self._skip_missed = skip_missed
        self.interval = None if rate is None else senders / rate
        self._next_due = now() + (number / rate if rate is not None else 0.0)

    async def due(self) -> float:
        """Wait until the next request is due, or the end; returns the time it is to count from.

        That is when it was due, if the sender was late; else now, for the timer is coarse.
        """
        if self.interval is None:
            return now()
        if self._skip_missed:
            self._next_due = max(self._next_due, now())
        intended = self._next_due
        self._next_due += self.interval
        wait = min(intended, self._recorder.ends) - now()
        if wait > 0:
            await asyncio.sleep(wait)
            if intended < self._recorder.ends:
                return now()
        return intended


def paces(
    recorder: Recorder, rate: float | None, senders: int, *, skip_missed: bool = False
) -> Iterator[Pace]:
    """The pace of each sender."""
    return (Pace(recorder, rate, number, senders, skip_missed) for number in range(senders))
