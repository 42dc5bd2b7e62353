"""``wepeople-ingest org``."""

from __future__ import annotations

import re

from tests.service.cli.command import (
    Run,
)


def test_an_organization_is_made_shown_changed_and_listed(run: Run) -> None:
    made = run("org", "create", "Acme", "--quota", "1000", "--rate", "50", "--json").json()
    assert re.fullmatch(r"org_[0-9A-Z]{26}", made["id"])
    assert made["createdAt"].endswith("Z")
    expected = {"name": "Acme", "developerApi": True, "monthlyQuota": 1000, "requestsPerSecond": 50}
    assert expected.items() <= made.items()
    for given in ("Acme", made["id"]):
        assert run("org", "show", given, "--json").json() == made
    changed = run("org", "update", "Acme", "--no-developer-api", "--quota", "none", "--json").json()
    assert changed == {**made, "developerApi": False, "monthlyQuota": None}
    renamed = run("org", "update", made["id"], "--name", "Ácme & Co", "--rate", "7", "--json")
    assert renamed.json() == {**changed, "name": "Ácme & Co", "requestsPerSecond": 7}
    other = run("org", "create", "Zoo", "--no-developer-api", "--json").json()
    assert (other["developerApi"], other["monthlyQuota"]) == (False, None)
    assert run("org", "list", "--json").json() == [other, renamed.json()]
