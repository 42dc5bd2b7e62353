"""Commands that remove something count what goes, and ask at a terminal alone."""

from __future__ import annotations

import io

import pytest

from core.admin import removal
from tests.service.cli.command import Run


class Terminal(io.StringIO):
    """A person's answer."""

    def isatty(self) -> bool:
        """It is typed."""
        return True


@pytest.fixture(autouse=True)
def _no_requests_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0.0)


def test_an_organization_goes_once_its_name_is_typed(
    run: Run, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = run("org", "remove", "Acme", "--dry-run", "--json").json()
    assert (counted["removed"], counted["apps"], counted["workingKeys"]) == (False, 1, 1)
    monkeypatch.setattr("sys.stdin", io.StringIO("Acme\n"))
    assert run("org", "remove", "Acme").code == 2  # nobody has typed it
    monkeypatch.setattr("sys.stdin", Terminal("acme\n"))
    refused = run("org", "remove", "Acme")
    assert (refused.code, refused.out) == (1, "")
    assert "nothing was changed" in refused.err
    assert len(run("org", "list", "--json").json()) == 1
    monkeypatch.setattr("sys.stdin", Terminal("Acme\n"))
    assert run("org", "remove", "Acme").code == 0
    assert run("org", "list", "--json").json() == []
    last, before, *_ = run("audit", "Acme", "--json").json()
    assert (last["action"], before["action"]) == ("org.remove", "key.create")


def test_an_app_goes_at_once_if_no_key_of_it_works(
    run: Run, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("app", "create", "Acme", "other", "--name", "Other")
    monkeypatch.setattr("sys.stdin", None)
    assert run("app", "remove", "crm-hub").code == 2
    run("key", "revoke", acme)
    gone = run("app", "remove", "crm-hub", "--json").json()
    assert (gone["app"], gone["removed"], gone["keys"]) == ("Acme/crm-hub", True, 1)
    run("key", "create", "other")
    assert run("app", "remove", "other", "--yes").code == 0
    assert run("app", "list", "--json").json() == []
    assert run("key", "list", "--json").json() == []
    actions = [entry["action"] for entry in run("audit", "--json").json()]
    assert actions[:4] == ["app.remove", "key.create", "app.remove", "key.revoke"]
