"""``worker merge`` and ``worker erase``: what they print, and when they ask."""

from __future__ import annotations

import io

import pytest

from core.admin import erasure
from tests.service.cli.command import Run, send, served
from tests.service.cli.test_removing import Terminal


@pytest.fixture(autouse=True)
def _no_servers_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "REJECTIONS_SECONDS", 0.0)


def test_a_merge_is_confirmed_by_the_name_of_the_one_that_goes(
    run: Run, zoe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = ("worker", "merge", "Acme", zoe, "alex@a.example")
    dry = run(*merge, "--dry-run", "--json").json()
    assert (dry["from"], dry["merged"], dry["events"]) == (zoe, False, 0)
    assert "merged" in run(*merge, "--dry-run").out
    assert run(*merge).code == 2  # nobody is there to ask
    monkeypatch.setattr("sys.stdin", Terminal("Alex\n"))
    assert "nothing was changed" in run(*merge).err
    assert len(run("worker", "list", "Acme", "--json").json()) == 2
    monkeypatch.setattr("sys.stdin", Terminal("Zoe\n"))
    assert run(*merge).code == 0
    [left] = run("worker", "list", "Acme", "--json").json()
    assert (left["displayName"], left["otherEmails"]) == ("Alex", ["zoe@a.example"])
    again = run(*merge, "--yes", "--json").json()  # as after an interruption
    assert (again["merged"], again["links"], again["events"]) == (True, 0, 0)
    assert "zoe@a.example" in run("worker", "show", "Acme", zoe).out
    log = run("audit", "Acme", "--json").out
    assert "worker.merge" in log
    assert "zoe@a.example" not in log


def test_an_erasure_gives_a_receipt(run: Run, zoe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    erase = ("worker", "erase", "Acme", "zoe@a.example")
    dry = run(*erase, "--dry-run", "--json").json()
    assert (dry["worker"], dry["erased"]) == (zoe, False)
    assert "events" in run(*erase, "--dry-run").out
    monkeypatch.setattr("sys.stdin", io.StringIO("Zoe\n"))
    assert run(*erase).code == 2
    receipt = run(*erase, "--yes", "--json").json()
    assert receipt == {
        "worker": zoe,
        "erased": True,
        "contentKept": False,
        "names": 1,
        "emails": 1,
        "links": 0,
        "eventContents": 0,
        "snapshotContents": 0,
        "idempotencyReceipts": 0,
        "rejectedItems": 0,
    }
    assert run(*erase, "--yes").code == 1  # nobody has that name any more
    again = run("worker", "erase", "Acme", zoe, "--keep-content", "--yes")
    assert "kept" in again.out
    shown = run("worker", "show", "Acme", zoe, "--json").json()
    assert shown["displayName"] == "erased worker"
    assert shown["erasedAt"] is not None
    assert "erased (UTC)" in run("worker", "show", "Acme", zoe).out
    assert len(run("worker", "list", "Acme", "--json").json()) == 1


def test_people_are_merged_and_erased_beside_a_running_server(run: Run, acme: str) -> None:
    run("org", "update", "Acme", "--quota", "none")
    with served() as (ready, _):
        url = ready["http"]
        for actor in ({"externalId": "crm-1"}, {"email": "alex@a.example"}):
            assert send(url, acme, 3, actor=actor, metadata={"who": "Alex"}).status_code == 202
        merged = run("worker", "merge", "Acme", "crm-1", "alex@a.example", "--yes", "--json").json()
        assert (merged["links"], merged["events"]) == (1, 3)
        assert send(url, acme, 1, actor={"externalId": "crm-1"}).status_code == 202
        shown = run("worker", "show", "Acme", "crm-1", "--json").json()
        assert (shown["id"], shown["events"]) == (merged["into"], 7)
        assert shown["firstEventAt"] < shown["lastEventAt"]
        receipt = run("worker", "erase", "Acme", "crm-1", "--yes", "--json").json()
        assert (receipt["worker"], receipt["names"]) == (merged["into"], 2)
        assert receipt["eventContents"] == 6
        assert send(url, acme, 1, actor={"externalId": "crm-1"}).status_code == 202
        newest, *earlier = run("events", "Acme", "--json").json()
        assert newest["worker"]["displayName"] == "crm-1"
        assert {one["worker"]["displayName"] for one in earlier} == {"erased worker"}
        assert {one["metadata"] for one in earlier} == {None}
        by_id = send(url, acme, 1, actor={"workerId": merged["from"]})
        assert by_id.status_code == 404
