"""Running commands of ``wepeople-ingest``, in this process or as one of their own."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
import typer.main

import service.cli.main

PROGRAM = "wepeople-ingest"

WAIT_SECONDS = 30.0

KEY = re.compile(r"wp_live_[0-9a-f]{32}")


class Result(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The JSON document, which is all there is on stdout, on one line."""
        assert (self.code, self.err) == (0, "")
        assert self.out.count("\n") == 1
        return json.loads(self.out)


Run = Callable[..., Result]

# From hundreds of signatures, which takes longer than most commands; a program does it once, too.
_tree_of_commands = functools.cache(typer.main.get_command)


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process: its exit code, its stdout and its stderr."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    monkeypatch.setattr(sys, "argv", [PROGRAM, *arguments])
    monkeypatch.setattr(typer.main, "get_command", _tree_of_commands)
    code: str | int | None = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            service.cli.main.main()
        except SystemExit as exit_:
            code = exit_.code or 0
    assert isinstance(code, int)
    return code, _text(out), _text(err)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "service.cli", *arguments]


@contextlib.contextmanager
def process(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command as a process of its own, which does not outlive the block."""
    with subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """A running ``serve --json`` and its ready line."""
    free = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    with process("serve", "--json", *free, *arguments) as started:
        assert started.stdout is not None
        line = started.stdout.readline()
        if not line:
            raise AssertionError(started.communicate()[1])
        yield json.loads(line), started


def send(url: str, key: str, count: int, **members: Any) -> httpx.Response:
    """Post events about one person."""
    event = {
        "eventType": "ticket.resolved",
        "category": "project_management",
        "actor": {"externalId": "crm-user-42"},
        **members,
    }
    return httpx.post(
        f"{url}/api/v1/ingest/events",
        json={"events": [event] * count},
        headers={"Authorization": f"Bearer {key}"},
    )
