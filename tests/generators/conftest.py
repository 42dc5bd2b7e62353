"""The run ends with a table of the generators, in CI's log too."""

from __future__ import annotations

import pytest

from tests.generators.table import lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    rows = []
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.getreports(outcome):
            told = dict(report.user_properties)
            if "generator" in told:
                reason = (
                    report.longrepr[2].removeprefix("Skipped: ") if outcome == "skipped" else ""
                )
                rows.append((told["generator"], reason or told.get("steps", [])))
    if rows:
        terminalreporter.section("clients generated from the OpenAPI document")
        for line in lines(sorted(rows)):
            terminalreporter.write_line(line)
