"""docs/operations.md: all of its commands are run by a test, and its links lead somewhere."""

from __future__ import annotations

import re

from tests.operations import (
    test_embedded,
    test_major_version,
    test_recovery,
    test_replication,
    test_upgrade,
)
from tests.operations.document import PAGE, sections

PLACES = {"db1", "db2", "a service's host", "a service's host, with the old release"}


def test_every_command_is_run_by_a_test() -> None:
    tests = (test_embedded, test_major_version, test_recovery, test_replication, test_upgrade)
    assert set(sections()) == {heading for test in tests for heading in test.HEADINGS}


def test_every_block_says_where_it_runs() -> None:
    assert {block.place for blocks in sections().values() for block in blocks} == PLACES
    assert PAGE.read_text("utf-8").count("```") == 2 * sum(map(len, sections().values()))


def test_links_within_the_page_lead_to_headings() -> None:
    text = PAGE.read_text("utf-8")
    headings = re.findall(r"^##+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors
