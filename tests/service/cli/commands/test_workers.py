"""``worker show`` and ``worker rename``."""

from __future__ import annotations

from tests.service.cli.command import Run


def test_a_worker_is_shown_and_renamed(run: Run, zoe: str) -> None:
    shown = run("worker", "show", "Acme", zoe, "--json").json()
    assert (shown["displayName"], shown["email"]) == ("Zoe", "zoe@a.example")
    assert (shown["events"], shown["snapshots"], shown["allEventsCounted"]) == (0, 0, True)
    assert (shown["firstEventAt"], shown["otherEmails"], shown["links"]) == (None, [], [])
    renamed = run("worker", "rename", "Acme", zoe, "Zoë", "--email", "z@a.example", "--json").json()
    assert (renamed["displayName"], renamed["email"]) == ("Zoë", "z@a.example")
    assert run("worker", "rename", "Acme", zoe, "Zoe", "--no-email").code == 0
    text = run("worker", "show", "Acme", zoe).out
    assert [line.split()[0] for line in text.splitlines()][:3] == ["id", "name", "e-mail"]
    assert "none" in text
    assert "Zoë" not in run("audit", "Acme", "--json").out
