"""``wepeople-ingest key rotate-secret``, in the order of docs/operations.md."""

from __future__ import annotations

import pytest

from tests.service.cli.command import WAIT_SECONDS, Run, send, served
from tests.support.waiting import wait_until

FIRST = "the operator's first secret"
SECOND = "the operator's second secret"


def old_keys(run: Run) -> list[str]:
    return [
        key["endsIn"] for key in run("key", "list", "--json").json() if key["needsPreviousSecret"]
    ]


@pytest.mark.parametrize("server_processes", ["1", "2"])
def test_the_secret_changes_while_services_serve(
    run: Run, acme: str, monkeypatch: pytest.MonkeyPatch, server_processes: str
) -> None:
    run("org", "update", "Acme", "--quota", "none")
    unused = run("key", "create", "crm-hub", "--json").json()["key"]
    previous = None
    for secret in (FIRST, SECOND):  # from the database's own, and then from that one
        monkeypatch.setenv("WEPEOPLE_KEY_SECRET", secret)
        if previous is not None:
            monkeypatch.setenv("WEPEOPLE_KEY_SECRET_PREVIOUS", previous)
        with served("--workers", server_processes) as (ready, _):
            assert send(ready["http"], acme, 1).status_code == 202
            assert old_keys(run) == []
            rotated = run("key", "rotate-secret", "--json").json()
            assert rotated == {
                "changed": True,
                "keysThatNeedPreviousSecret": 2,
                "operatorsThatNeedPreviousSecret": 0,
            }

            def acme_is_renewed(url: str = ready["http"]) -> bool:
                assert send(url, acme, 1).status_code == 202
                return old_keys(run) == [unused[-4:]]

            wait_until(acme_is_renewed, "the key in use is renewed", seconds=WAIT_SECONDS)
            listed = run("key", "list")
            assert f"Keys that need the secret before WEPEOPLE_KEY_SECRET: 1, …{unused[-4:]}." in (
                listed.err
            )
            again = run("key", "rotate-secret")
            assert (again.code, again.out) == (0, "")
            assert "in force already" in again.err
            assert "until they are used: 1, operators: 0" in again.err
            assert send(ready["http"], unused, 1).status_code == 202
            wait_until(lambda: old_keys(run) == [], "the other is, too", seconds=WAIT_SECONDS)
            made = run("key", "create", "crm-hub", "--json").json()["key"]
            assert send(ready["http"], made, 1).status_code == 202
            assert old_keys(run) == []
            run("key", "revoke", made)
        previous = secret
    monkeypatch.delenv("WEPEOPLE_KEY_SECRET_PREVIOUS")
    with served() as (ready, _):
        for key in (acme, unused):
            assert send(ready["http"], key, 1).status_code == 202
    assert SECOND not in run("audit").out
    monkeypatch.setenv("WEPEOPLE_KEY_SECRET", FIRST)
    refused = run("key", "rotate-secret")
    assert (refused.code, refused.out) == (1, "")
    assert "set WEPEOPLE_KEY_SECRET_PREVIOUS to that one" in refused.err
