"""The three operations, with an example of each."""

from __future__ import annotations

from typing import Final

from core import ids, limits
from core.error_codes import ErrorCode
from http_api.docs.openapi.errors import error_responses
from http_api.docs.openapi.headers import EVERY_HEADER, KEY_HEADERS, header_refs
from http_api.docs.openapi.nodes import REQUEST_ID, WORKER_ID, Node, schema_ref

PING_PATH: Final = "/api/v1/ingest/ping"
EVENTS_PATH: Final = "/api/v1/ingest/events"
SNAPSHOTS_PATH: Final = "/api/v1/ingest/snapshots"


def paths(server_url: str) -> Node:
    """The operations by path and method."""
    return {
        PING_PATH: {"get": _ping(server_url)},
        EVENTS_PATH: {"post": _ingest_events(server_url)},
        SNAPSHOTS_PATH: {"post": _ingest_snapshot(server_url)},
    }


def idempotency_key() -> Node:
    """The one parameter, a header."""
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": (
            "A name of your choosing for this request, such as a UUID. For "
            f"{limits.IDEMPOTENCY_WINDOW_SECONDS // 60} minutes, an equal request with the same "
            "API key and endpoint gets the first answer again. The same name with a different "
            "body is refused as `invalid_body`. Requests that stored nothing are not remembered."
        ),
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": limits.MAX_IDEMPOTENCY_KEY_CHARACTERS,
        },
        "example": "crm-batch-8412",
    }


def _ping(server_url: str) -> Node:
    example = {
        "ok": True,
        "organizationId": f"{ids.ORGANIZATION}01KM2A9T5DX8R3WQ7E0ZBNHC4V",
        "app": {
            "id": f"{ids.APP}01KM2AB8M6YJ1F5K9PSG3TQW2R",
            "slug": "crm-hub",
            "name": "CRM Hub",
        },
    }
    ok = _success(
        "The key is good.", "PingResponse", {"ping": {"value": example}}, replayable=False
    )
    return {
        "operationId": "ping",
        "tags": ["ingest"],
        "summary": "Check a key and see which app it belongs to",
        "description": (
            "Takes neither a body nor parameters. It costs a request of the rate limits and "
            "nothing of the quota."
        ),
        "responses": {"200": ok} | error_responses("ping", server_url),
    }


def _ingest_events(server_url: str) -> Node:
    batch = {
        "events": [
            {
                "eventType": "ticket.resolved",
                "category": "project_management",
                "actor": {"externalId": "crm-user-42"},
                "duration": 240,
                "metadata": {"ticket_id": "SUP-431"},
            },
            {
                "eventType": "call.finished",
                "category": "communication",
                "actor": {"email": "alex.chen@example.com", "displayName": "Alex Chen"},
                "timestamp": "2026-04-19T14:05:30.250+02:00",
            },
        ]
    }
    minimal = {
        "events": [
            {
                "eventType": "ticket.resolved",
                "category": "project_management",
                "actor": {"workerId": WORKER_ID},
            }
        ]
    }
    accepted = [
        {"eventType": "ticket.resolved", "timestamp": "2026-04-19T12:06:10.018231Z"},
        {"eventType": "call.finished", "timestamp": "2026-04-19T12:05:30.25Z"},
    ]
    rejected = [
        {
            "index": 1,
            "code": ErrorCode.FORBIDDEN_EVENT_TYPE.value,
            "message": "events[1].eventType: 'call.finished' is not whitelisted for this app",
        }
    ]
    return {
        "operationId": "ingestEvents",
        "tags": ["ingest"],
        "summary": "Add events to the monitoring timeline",
        "description": (
            "Each event is judged on its own: `202` says that all were stored, `207` that some "
            "were and `results.rejected` why the others were not. If none was, the answer is the "
            "error of the first event, with the reasons for all of them beside it.\n\n"
            "Repeating a request needs its `Idempotency-Key`; sending only the rejected events "
            "again needs a new one. Every stored event counts once against the month's quota; an "
            "event that does not fit any more is rejected with `quota_exceeded`."
        ),
        "parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}],
        "requestBody": _body(
            "IngestEventBatch", {"batch": {"value": batch}, "minimal": {"value": minimal}}
        ),
        "responses": {
            "202": _success(
                "All events are stored.",
                "IngestBatchResponse",
                {"all_accepted": {"value": _batch_answer(accepted, [])}},
            ),
            "207": _success(
                "Some events are stored, the others are listed as rejected.",
                "IngestBatchResponse",
                {"some_rejected": {"value": _batch_answer(accepted[:1], rejected)}},
            ),
        }
        | error_responses("ingestEvents", server_url),
    }


def _ingest_snapshot(server_url: str) -> Node:
    snapshot = {
        "snapshotType": "support.desk",
        "actor": {"externalId": "crm-user-42"},
        "timestamp": "2026-04-19T12:00:00Z",
        "metrics": {
            "tickets_open": 7,
            "mood": "steady",
            "csat": {"value": 94.5, "unit": "percentage", "label": "Customer satisfaction"},
        },
        "metadata": {"source": "nightly export"},
    }
    answer = {
        "requestId": REQUEST_ID,
        "ok": True,
        "snapshotType": "support.desk",
        "worker": {"id": WORKER_ID, "displayName": "Alex Chen"},
    }
    return {
        "operationId": "ingestSnapshot",
        "tags": ["ingest"],
        "summary": "Replace the current snapshot card of a worker",
        "description": (
            "There is one card for each app, worker and `snapshotType`: the snapshot with the "
            "newest `timestamp`, or of equal ones the last to arrive. Older snapshots stay "
            "readable as history, and one that arrives late joins it without replacing the card. "
            "A snapshot counts as one event of the quota."
        ),
        "parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}],
        "requestBody": _body("IngestSnapshot", {"card": {"value": snapshot}}),
        "responses": {
            "202": _success(
                "The snapshot is stored.", "SnapshotResponse", {"stored": {"value": answer}}
            )
        }
        | error_responses("ingestSnapshot", server_url),
    }


def _success(description: str, schema: str, examples: Node, *, replayable: bool = True) -> Node:
    names = (*EVERY_HEADER, *KEY_HEADERS, *(["Idempotency-Replayed"] if replayable else []))
    return {
        "description": description,
        "headers": header_refs(names),
        "content": {"application/json": {"schema": schema_ref(schema), "examples": examples}},
    }


def _body(schema: str, examples: Node) -> Node:
    return {
        "required": True,
        "description": (
            f"At most {limits.MAX_BODY_BYTES:,} bytes after decompression; "
            "`Content-Encoding: gzip` is understood."
        ),
        "content": {"application/json": {"schema": schema_ref(schema), "examples": examples}},
    }


def _batch_answer(accepted: list[Node], rejected: list[Node]) -> Node:
    return {
        "requestId": REQUEST_ID,
        "accepted": len(accepted),
        "rejected": len(rejected),
        "batchLimit": limits.MAX_BATCH_EVENTS,
        "results": {"accepted": accepted, "rejected": rejected},
    }
