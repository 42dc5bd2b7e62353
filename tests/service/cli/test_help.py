"""The help of every command."""

from __future__ import annotations

import re

import pytest

from tests.service.cli.command import (
    Run,
)


@pytest.fixture
def database_url(module_database: str) -> str:
    return module_database


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve"],
        ["migrate"],
        *(["org", verb] for verb in ("create", "list", "show", "update", "remove")),
        *(["app", verb] for verb in ("create", "list", "allow", "deny", "remove")),
        *(["key", verb] for verb in ("create", "list", "show", "rotate", "revoke")),
        *(["worker", verb] for verb in ("create", "list", "show", "rename", "merge", "erase")),
        *(["producer", verb] for verb in ("list", "forget")),
        ["audit"],
        ["usage"],
        ["events"],
        ["snapshots"],
    ],
    ids=" ".join,
)
def test_every_command_has_help_and_json(run: Run, arguments: list[str]) -> None:
    result = run(*arguments, "--help")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"^  --json +Print JSON, for scripts\.$", result.out, re.MULTILINE)
    assert max(map(len, result.out.split("\nExamples:")[0].splitlines())) <= 80
