"""``wepeople-ingest operator``: tokens are shown once, and links lead to the console."""

from __future__ import annotations

import re

import httpx
import psycopg
import pytest

from http_api.paths import MANAGE_PATH, SIGN_IN_PATH
from tests.service.cli.command import Run, served

TOKEN = re.compile(r"wp_ops_[0-9a-f]{32}")


def status(url: str, token: str) -> int:
    """The status of the answer to who asks whose token it is."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{url}{MANAGE_PATH}/operator", headers=headers, timeout=60).status_code


def test_a_token_is_shown_once_and_works_until_it_is_revoked(run: Run, database_url: str) -> None:
    made = run("operator", "create", "ann", "--scope", "write", "--expires-in", "30d", "--json")
    token = made.json()["token"]
    assert TOKEN.fullmatch(token)
    [listed] = run("operator", "list", "--json").json()
    assert {**listed, "token": token} == made.json()
    assert (listed["name"], listed["scope"], listed["state"]) == ("ann", "write", "active")
    assert listed["expiresAt"] > listed["createdAt"]
    assert token not in run("operator", "list").out
    with psycopg.connect(database_url) as db:
        [(row,)] = db.execute("SELECT operators::text FROM operators").fetchall()
    assert token not in row
    with served() as (ready, _):
        assert status(ready["http"], token) == 200
        assert run("operator", "list", "--json").json()[0]["lastUsedAt"] is not None
        revoked = run("operator", "revoke", "ann", "--json").json()
        assert revoked["state"] == "revoked"
        assert status(ready["http"], token) == 401
    assert run("operator", "revoke", listed["id"], "--json").json() == revoked
    audited = run("audit", "--json")
    assert [entry["action"] for entry in audited.json()] == ["operator.revoke", "operator.create"]
    assert token not in audited.out


def test_people_get_the_token_on_a_line_and_a_warning(run: Run) -> None:
    made = run("operator", "create", "grafana")
    assert len(TOKEN.findall(made.out)) == 1
    assert "cannot be shown again" in made.err
    assert "wp_ops_" not in made.err
    assert run("operator", "list", "--json").json()[0]["scope"] == "read"


def test_a_link_is_for_an_operator_whose_token_works(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEPEOPLE_PUBLIC_URL", "https://ingest.example")
    run("operator", "create", "ann")
    links = {run("operator", "link", "ann", "--json").json()["url"] for _ in range(2)}
    assert len(links) == 2
    for url in links:
        assert url.startswith(f"https://ingest.example{SIGN_IN_PATH}?link=")
    assert run("operator", "link", "ann").out.startswith(f"https://ingest.example{SIGN_IN_PATH}?")
    run("operator", "revoke", "ann")
    refused = run("operator", "link", "ann")
    assert (refused.code, refused.out) == (2, "")
    assert "was revoked" in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["create", "ann"], 1, "an operator named 'ann' exists already"),
        (["create", ""], 2, "must be 1 to 200 characters"),
        (["create", "bob", "--scope", "all"], 2, "it is read or write"),
        (["create", "bob", "--expires-in", "0d"], 2, "is not a duration"),
        (["revoke", "anna"], 1, "did you mean 'ann'?"),
        (["link", "bob"], 1, "there is no operator 'bob'"),
    ],
)
def test_what_is_refused(run: Run, arguments: list[str], code: int, reason: str) -> None:
    run("operator", "create", "ann")
    result = run("operator", *arguments)
    assert (result.code, result.out) == (code, "")
    assert reason in result.err
