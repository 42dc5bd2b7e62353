"""The program's entry: Ctrl-C at any instant from here on is one line on stderr, no traceback.

Python's own handler of SIGINT raises KeyboardInterrupt wherever the program is. That is fine while
a command runs (service/cli/main.py), but not in the imports before it, nor at the exit.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

FAILED: Final = 1  # the exit status
INTERRUPTED: Final = "wepeople-ingest: interrupted"


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """End the process: a handler of signals while there is nothing to clean up."""
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(FAILED)


@contextlib.contextmanager
def raising_keyboard_interrupt() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt within the block, so that a command can clean up."""
    before = signal.getsignal(signal.SIGINT)
    if before is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if before is end_at_once:
            signal.signal(signal.SIGINT, end_at_once)


def main() -> None:
    """Run the program."""
    # Ignored, as in a shell's background job, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)
    from service.cli.main import main as run

    run()
