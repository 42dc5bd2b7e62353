"""The list of field reports: every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
PAGE: Final = TESTS.parent / "docs/field-reports.md"
MIN_REPORTS: Final = 30
NAMED: Final = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows() -> list[str]:
    """The rows of the tables, without their heads."""
    return [line for line in PAGE.read_text().splitlines() if line.startswith("| [")]


def test_there_are_enough_reports_each_once() -> None:
    sources = [row.split("|")[1] for row in rows()]
    assert len(sources) >= MIN_REPORTS
    assert len(set(sources)) == len(sources)


def test_every_report_names_tests_that_exist() -> None:
    for row in rows():
        named = NAMED.findall(row)
        assert named, f"no test: {row}"
        for path, name in named:
            tree = ast.parse((TESTS / path).read_text())
            functions = {
                node.name
                for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            assert name in functions, f"{path} has no {name}"
