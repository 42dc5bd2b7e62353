"""SIGHUP: the end of the terminal from which the service was started, or else a wish to reload."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable

log = logging.getLogger(__name__)


def _has_terminal() -> bool:
    """Whether the process has a controlling terminal; one that has hung up is none."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Hangup:
    """What SIGHUP does from now on.

    If the terminal is gone that was there at the start, the process ends as with SIGTERM; otherwise
    it calls ``reload``. Whoever started it with SIGHUP ignored, as nohup does, means it to outlive
    the terminal.
    """

    def __init__(self) -> None:
        self._ends = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()
        self.reload: Callable[[], None] | None = None
        signal.signal(signal.SIGHUP, lambda *_: self._on_signal())

    def use_loop(self) -> None:
        """Have the running event loop take the signal."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_signal)

    def _on_signal(self) -> None:
        if self._ends and not _has_terminal():
            log.info("the terminal is gone")
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.reload is not None:
            self.reload()
