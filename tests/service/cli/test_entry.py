"""Ctrl-C at any instant: a line on stderr, and never a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.cli.command import WAIT_SECONDS, command, process


@pytest.mark.parametrize(
    "module", ["click.core", "typer.main", "service.cli.commands.produce", "pydantic", "grpc"]
)
def test_ctrl_c_while_modules_are_imported(environment: None, module: str) -> None:
    executable, *arguments = command("serve", "--json", "--http", "127.0.0.1:0")
    with subprocess.Popen(
        [executable, "-X", "importtime", *arguments],  # tells of each module that was imported
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            assert started.stderr is not None
            while (line := started.stderr.readline()).rpartition("|")[2].strip() != module:
                assert line, f"{module} is not imported"
            started.send_signal(signal.SIGINT)
            out, err = started.communicate(timeout=WAIT_SECONDS)
        finally:
            started.kill()
    said = [line for line in err.splitlines() if line and not line.startswith(("import time", "{"))]
    assert (started.returncode, out, said) == (1, "", ["wepeople-ingest: interrupted"])


@pytest.mark.parametrize(
    "interrupt",
    [
        "raise KeyboardInterrupt",
        "exec('raise KeyboardInterrupt')",  # as in code that dataclasses make
        "from pydantic_core import SchemaError; raise SchemaError('in it: KeyboardInterrupt: ')",
    ],
)
def test_ctrl_c_in_a_library_is_no_other_end(
    environment: None, interrupt: str, tmp_path: Path
) -> None:
    (tmp_path / "interrupted.py").write_text(f"""
import service.cli.main

def app():
    {interrupt}

service.cli.main.app = app
service.cli.main.main()
""")
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "wepeople-ingest: interrupted\n")


def test_ctrl_c_at_the_exit(environment: None) -> None:
    with process("org", "list", "--json") as started:
        assert started.stdout is not None
        started.stdout.read(1)  # all that was to be done is done
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=WAIT_SECONDS)
    assert err in ("", "wepeople-ingest: interrupted\n")


def test_ctrl_c_that_was_ignored_from_the_start_stays_so(environment: None) -> None:
    """As in the background of a shell without job control."""
    ignoring = "trap '' INT; exec \"$@\""
    executable, *arguments = command("org", "list", "--json")
    with subprocess.Popen(
        ["/bin/sh", "-c", ignoring, "sh", executable, "-X", "importtime", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stderr is not None
        while (line := started.stderr.readline()).rpartition("|")[2].strip() != "typer.main":
            assert line, "the program ended"
        started.send_signal(signal.SIGINT)
        out, _ = started.communicate(timeout=WAIT_SECONDS)
    assert (started.returncode, out) == (0, "[]\n")
