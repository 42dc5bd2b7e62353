"""Processes beside the service: told what to do on stdin, and ended by closing it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

OWN_PROJECT: Final = Path(__file__).parents[2]
END_SECONDS: Final = 20.0


class Child:
    """``python -m MODULE`` of this checkout; a context manager that leaves no process behind.

    ``heard`` is called with every line of JSON that the process prints, in a thread of its own.
    """

    def __init__(self, module: str, order: object, heard: Callable[[Any], None]) -> None:
        self._command = [sys.executable, "-m", module]
        self._order = order
        self._heard = heard

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            cwd=OWN_PROJECT,
            env={**os.environ, "PYTHONPATH": os.fspath(OWN_PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._order) + "\n")
        self._process.stdin.flush()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        return self

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard(json.loads(line))

    def end(self) -> None:
        """Let it end, and wait until it has; twice is harmless."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self._process.stdout.close()

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None


def tell(what: object) -> None:
    """Print a line of JSON for the parent."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def order() -> Any:
    """What the parent wants done."""
    return json.loads(sys.stdin.readline())


async def until_ended() -> None:
    """Wait until the parent closes stdin, or is gone."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def look() -> None:
        if not os.read(sys.stdin.fileno(), 65_536):
            loop.remove_reader(sys.stdin.fileno())
            ended.set()

    loop.add_reader(sys.stdin.fileno(), look)
    await ended.wait()
