"""``wepeople-ingest app``."""

from __future__ import annotations

from tests.service.cli.command import (
    Run,
)


def test_a_whitelist_is_given_at_once_added_to_and_taken_from(run: Run) -> None:
    run("org", "create", "Acme")
    create = ["app", "create", "Acme", "crm-hub", "--name", "CRM Hub", "--json", "--allow"]
    made = run(*create, "ticket.resolved", "deal.won,call.finished", "--allow", "a-b").json()
    assert made["allowedEventTypes"] == ["a-b", "call.finished", "deal.won", "ticket.resolved"]
    assert (made["slug"], made["name"]) == ("crm-hub", "CRM Hub")
    assert made["source"] == "custom:crm-hub"
    added = run("app", "allow", "crm-hub", "deal.won", "Zeta", "--json").json()
    assert added["allowedEventTypes"] == ["Zeta", *made["allowedEventTypes"]]
    left = run("app", "deny", made["id"], "a-b", "Zeta", "deal.won", "call.finished", "--json")
    assert left.json()["allowedEventTypes"] == ["ticket.resolved"]
    assert run("app", "list", "--json").json() == [left.json()]
    bare = run("app", "create", "Acme", "bare", "--name", "Bare")
    assert "app allow bare" in bare.err


def test_a_slug_in_two_organizations_has_to_be_told_apart(run: Run) -> None:
    made = {}
    for name in ("Acme", "A/B"):
        run("org", "create", name)
        create = ("app", "create", name, "crm-hub", "--name", "CRM", "--json")
        made[name] = run(*create).json()
    ambiguous = run("key", "create", "crm-hub")
    assert ambiguous.code == 1
    assert "Acme/crm-hub" in ambiguous.err
    assert made["A/B"]["id"] in ambiguous.err
    for name, app in made.items():
        for given in (f"{name}/crm-hub", f"{app['organizationId']}/crm-hub", app["id"]):
            assert run("key", "create", given, "--json").json()["appId"] == app["id"]
        # Where the organization is known anyway, the slug is enough.
        assert run("events", name, "--app", "crm-hub", "--json").json() == []
