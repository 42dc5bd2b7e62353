"""``wepeople-ingest rejections``: from a request id to the reason."""

from __future__ import annotations

import json
import signal

from tests.service.cli.command import WAIT_SECONDS, Run, process, send
from tests.support.running_service import RunningService


def test_a_request_id_leads_to_the_reason(run: Run, acme: str, database_url: str) -> None:
    with (
        RunningService(database_url) as server,
        process("rejections", "Acme", "--follow", "--json") as follower,
    ):
        assert follower.stdout is not None
        answer = send(server.addresses.http, acme, 1, eventType="not.allowed")
        request_id = answer.json()["error"]["requestId"]
        followed = json.loads(follower.stdout.readline())
        follower.send_signal(signal.SIGINT)
        rest, err = follower.communicate(timeout=WAIT_SECONDS)
        assert (follower.returncode, rest, err) == (0, "", "")

    [found] = run("rejections", "Acme", "--request", request_id, "--json").json()
    assert found == followed
    assert found["code"] == "forbidden_event_type"
    assert (found["index"], found["field"]) == (0, "eventType")
    assert (found["app"], found["keyHint"]) == ("crm-hub", acme[-4:])
    assert found["item"] is None
    shown = run("rejections", "Acme", "--app", "crm-hub", "--code", "forbidden_event_type")
    assert request_id in shown.out


def test_what_is_not_there_is_said(run: Run, acme: str) -> None:
    assert run("rejections", "Acme") == (0, "", "There are no such rejections.\n")
    nothing = run("rejections", "Acme", "--request", "req_1")
    assert nothing.code == 0
    assert "req_1" in nothing.err
    wrong = run("rejections", "Acme", "--code", "key_revokd")
    assert (wrong.code, wrong.out) == (2, "")
    assert "did you mean key_revoked?" in wrong.err
