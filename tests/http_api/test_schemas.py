"""The JSON of requests and answers: names of members, and the status of each answer."""

from __future__ import annotations

import json

import msgspec
import pytest

from core.error_codes import ErrorCode
from core.models import AcceptedEvent, Receipt, Rejection
from http_api.schemas import WireActor, WireEvent, WireSnapshot, render_receipt

ACCEPTED = AcceptedEvent("ticket.resolved", "2026-04-19T12:06:10.018231Z")
REJECTED = Rejection(1, ErrorCode.FORBIDDEN_EVENT_TYPE, "events[1].eventType: no")


def test_events_and_snapshots_have_their_names_on_the_wire() -> None:
    fields = {
        kind: [field.encode_name for field in msgspec.structs.fields(kind)]
        for kind in (WireActor, WireEvent, WireSnapshot)
    }
    assert set(fields[WireActor]) == {"workerId", "externalId", "email", "displayName"}
    assert set(fields[WireEvent]) == {
        "eventType",
        "category",
        "actor",
        "timestamp",
        "duration",
        "metadata",
    }
    assert set(fields[WireSnapshot]) == {
        "snapshotType",
        "metrics",
        "actor",
        "timestamp",
        "metadata",
    }


@pytest.mark.parametrize("member", ["actor", "timestamp", "duration", "metadata"])
def test_an_absent_member_is_allowed_and_a_null_is_not(member: str) -> None:
    minimal = {"eventType": "a.b", "category": "other"}
    assert msgspec.json.decode(json.dumps(minimal), type=WireEvent).event_type == "a.b"
    if member != "metadata":  # kept as text, judged by the core
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(json.dumps(minimal | {member: None}), type=WireEvent)


def test_instants_are_told_of_as_text() -> None:
    echoes = [AcceptedEvent("a.b", us) for us in (1_776_600_300_000_000, 1, 1)]
    _, body = render_receipt(Receipt("req_1", 3, echoes, []))
    told = [one["timestamp"] for one in json.loads(body)["results"]["accepted"]]
    assert told == ["2026-04-19T12:05:00Z", *["1970-01-01T00:00:00.000001Z"] * 2]


@pytest.mark.parametrize(("rejected", "status"), [([], 202), ([REJECTED], 207)])
def test_the_status_says_whether_all_events_are_stored(
    rejected: list[Rejection], status: int
) -> None:
    answered, body = render_receipt(Receipt("req_1", 1, [ACCEPTED], rejected))
    assert answered == status
    assert json.loads(body) == {
        "requestId": "req_1",
        "accepted": 1,
        "rejected": len(rejected),
        "batchLimit": 500,
        "results": {
            "accepted": [
                {"eventType": "ticket.resolved", "timestamp": "2026-04-19T12:06:10.018231Z"}
            ],
            "rejected": [
                {"index": one.index, "code": one.code.value, "message": one.message}
                for one in rejected
            ],
        },
    }
