"""The output of commands: tables and JSON."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.service.cli.command import (
    WAIT_SECONDS,
    Run,
    command,
)


def test_people_get_tables_and_scripts_get_json_wherever_the_option_stands(run: Run) -> None:
    nothing = run("org", "list")
    assert (nothing.code, nothing.out) == (0, "")
    assert "wepeople-ingest org create" in nothing.err
    assert run("--json", "org", "list").json() == []
    run("org", "create", "Acme", "--quota", "1234567")
    table = run("org", "list")
    assert table.err == ""
    header, row = table.out.splitlines()
    assert header.split()[0] == "ID"
    assert row.split()[1:4] == ["on", "1,234,567", "600/s"]
    assert row.split()[-1] == "Acme"


@pytest.mark.parametrize(("width", "is_block"), [(200, False), (40, True)])
def test_a_table_fits_the_terminal_or_becomes_blocks(
    run: Run, acme: str, width: int, is_block: bool
) -> None:
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
    terminal, end = os.openpty()
    try:
        done = subprocess.run(
            command("app", "list"), stdout=end, stdin=end, env=environment, timeout=WAIT_SECONDS
        )
        shown = os.read(terminal, 65_536).decode()
    finally:
        os.close(terminal)
        os.close(end)
    assert done.returncode == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert bool(re.match(r"ID +app_\w{26}$", lines[0])) == is_block
    assert len(lines) == (5 if is_block else 2)
    assert is_block or max(map(len, lines)) <= width
    assert "\x1b[1m" in shown
    assert "\x1b" not in run("app", "list").out  # which is no terminal
