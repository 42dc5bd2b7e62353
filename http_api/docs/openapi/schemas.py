"""What requests and answers look like.

The schemas describe what the service accepts, not more: whatever they refuse, it refuses, too.
"""

from __future__ import annotations

from typing import Final

from core import ids, limits
from core.error_codes import CATALOGUE
from http_api.docs.openapi.errors import EVENT_CODES
from http_api.docs.openapi.nodes import (
    NO_NUL,
    WORKER_ID,
    Node,
    count,
    identifier,
    object_of,
    schema_ref,
    text,
    type_name,
)
from http_api.errors import HTTP_STATUS

_EMAIL: Final = r"^[^@\u0000]+@[^\u0000]*[^@\u0000]$"
_UTC: Final = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z$"


def schemas() -> Node:
    """Every schema by its name."""
    return _request_schemas() | _answer_schemas() | _error_schemas()


def _request_schemas() -> Node:
    timestamp = {
        "type": "string",
        "format": "date-time",
        "description": (
            "When it was so: RFC 3339 with an offset, in the years 1 to 9999, kept to the "
            "microsecond. Without it, the time of receipt."
        ),
        "examples": ["2026-04-19T14:05:30.250+02:00"],
    }
    metadata = {
        "type": "object",
        "description": (
            "Whatever else you know, stored as sent, digit for digit: any JSON object of at most "
            f"{limits.MAX_JSON_BYTES:,} bytes as compact UTF-8, at most {limits.MAX_JSON_DEPTH} "
            "levels deep."
        ),
        "examples": [{"ticket_id": "SUP-431"}],
    }
    return {
        "EventCategory": {
            "type": "string",
            "description": "What kind of work an event belongs to.",
            "enum": list(limits.CATEGORIES),
        },
        "Actor": _actor(),
        "IngestEvent": object_of(
            "One thing that happened. Unknown members are ignored.",
            ("eventType", "category", "actor"),
            {
                "eventType": type_name(
                    "What happened. Must be on the app's whitelist of event types.",
                    "ticket.resolved",
                ),
                "category": schema_ref("EventCategory"),
                "actor": schema_ref("Actor"),
                "timestamp": timestamp,
                "duration": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": limits.MAX_DURATION_SECONDS,
                    "description": "How long it took, in whole seconds.",
                    "examples": [240],
                },
                "metadata": metadata,
            },
        ),
        "IngestEventBatch": object_of(
            "Events that are sent together. They may be about different people.",
            ("events",),
            {
                "events": {
                    "type": "array",
                    "description": "The events, each judged on its own.",
                    "minItems": 1,
                    "maxItems": limits.MAX_BATCH_EVENTS,
                    "items": schema_ref("IngestEvent"),
                }
            },
        ),
        "Metric": _metric(),
        "IngestSnapshot": object_of(
            "A card of metrics about one person. Unknown members are ignored.",
            ("snapshotType", "actor", "metrics"),
            {
                "snapshotType": type_name(
                    "Which card this is. The same name later replaces it.", "support.desk"
                ),
                "actor": schema_ref("Actor"),
                "timestamp": timestamp,
                "metrics": {
                    "type": "object",
                    "description": (
                        "The metrics by name, in all at most "
                        f"{limits.MAX_JSON_BYTES:,} bytes as compact UTF-8 JSON."
                    ),
                    "propertyNames": {"pattern": NO_NUL},
                    "additionalProperties": schema_ref("Metric"),
                },
                "metadata": metadata,
            },
        ),
    }


def _actor() -> Node:
    names = ("workerId", "externalId", "email")
    return object_of(
        "The person it is about, named in at least one of three ways. `workerId` outranks "
        "`externalId`, which outranks `email`; every one that is sent must be valid. A person "
        "not known by `externalId` or `email` is added to the organization.",
        (),
        {
            "workerId": text("The id of a worker of your organization.", None, WORKER_ID),
            "externalId": text(
                "Your own id for the person, unique within your app. Together with an `email` "
                "it is linked to the worker who has that e-mail.",
                limits.MAX_NAME_CHARACTERS,
                "crm-user-42",
            ),
            "email": {
                "type": "string",
                "description": (
                    "The person's e-mail address, compared without regard to case. It needs an "
                    "`@` with something on both sides."
                ),
                "minLength": limits.MIN_EMAIL_CHARACTERS,
                "maxLength": limits.MAX_EMAIL_CHARACTERS,
                "pattern": _EMAIL,
                "examples": ["alex.chen@example.com"],
            },
            "displayName": text(
                "What to call the person if they are new.", limits.MAX_NAME_CHARACTERS, "Alex Chen"
            ),
        },
        anyOf=[{"required": [name]} for name in names],
    )


def _metric() -> Node:
    return {
        "description": "A number, a short text, or a number with its unit and a label.",
        "oneOf": [
            {"type": "number", "description": "A finite number."},
            text("A text to show as it is.", limits.MAX_LABEL_CHARACTERS, "steady", least=0),
            object_of(
                "A number and how to show it.",
                ("value",),
                {
                    "value": {"type": "number", "description": "A finite number."},
                    "unit": {
                        "type": "string",
                        "enum": list(limits.METRIC_UNITS),
                        "description": "What the number counts or measures.",
                    },
                    "label": text(
                        "What to call the metric.",
                        limits.MAX_LABEL_CHARACTERS,
                        "Customer satisfaction",
                        least=0,
                    ),
                },
            ),
        ],
    }


def _answer_schemas() -> Node:
    accepted = count("How many events are stored.")
    return {
        "RequestId": identifier(ids.REQUEST, "Names a request; the same as `X-Request-Id`."),
        "AcceptedEvent": object_of(
            "An event that is stored.",
            ("eventType", "timestamp"),
            {
                "eventType": {"type": "string", "description": "As sent."},
                "timestamp": {
                    "type": "string",
                    "format": "date-time",
                    "pattern": _UTC,
                    "description": "When it happened, in UTC, to the microsecond.",
                },
            },
        ),
        "RejectedEvent": object_of(
            "An event that is not stored, and why.",
            ("index", "code", "message"),
            {
                "index": count("Its position in the request, from 0."),
                "code": {
                    "type": "string",
                    "enum": [code.value for code in EVENT_CODES],
                    "description": "The reason; one of the error codes.",
                },
                "message": {
                    "type": "string",
                    "description": "The reason for people, naming the members that are wrong.",
                },
            },
        ),
        "BatchResults": object_of(
            "What became of each event.",
            ("accepted", "rejected"),
            {
                "accepted": {
                    "type": "array",
                    "description": "What is stored, in the order of the request.",
                    "items": schema_ref("AcceptedEvent"),
                },
                "rejected": {
                    "type": "array",
                    "description": "What is not, in the order of the request.",
                    "items": schema_ref("RejectedEvent"),
                },
            },
        ),
        "IngestBatchResponse": object_of(
            "The answer to a batch of which something is stored.",
            ("requestId", "accepted", "rejected", "batchLimit", "results"),
            {
                "requestId": schema_ref("RequestId"),
                "accepted": accepted | {"minimum": 1},
                "rejected": count("How many events are not."),
                "batchLimit": _batch_limit(),
                "results": schema_ref("BatchResults"),
            },
        ),
        "SnapshotResponse": object_of(
            "The answer to a snapshot that is stored.",
            ("requestId", "ok", "snapshotType", "worker"),
            {
                "requestId": schema_ref("RequestId"),
                "ok": {"type": "boolean", "const": True, "description": "Always `true`."},
                "snapshotType": {"type": "string", "description": "As sent."},
                "worker": object_of(
                    "Whom the card is about.",
                    ("id", "displayName"),
                    {
                        "id": identifier(ids.WORKER, "The worker's id, good as a `workerId`."),
                        "displayName": {"type": "string", "description": "The worker's name."},
                    },
                ),
            },
        ),
        "PingResponse": object_of(
            "Whom a key speaks for.",
            ("ok", "organizationId", "app"),
            {
                "ok": {"type": "boolean", "const": True, "description": "Always `true`."},
                "organizationId": identifier(ids.ORGANIZATION, "The organization."),
                "app": object_of(
                    "The app that the key belongs to.",
                    ("id", "slug", "name"),
                    {
                        "id": identifier(ids.APP, "The app's id."),
                        "slug": {
                            "type": "string",
                            "description": "Its short name: events have source `custom:<slug>`.",
                        },
                        "name": {"type": "string", "description": "Its name."},
                    },
                ),
            },
        ),
    }


def _batch_limit() -> Node:
    return {
        "type": "integer",
        "const": limits.MAX_BATCH_EVENTS,
        "description": "How many events a batch may hold.",
    }


def _error_schemas() -> Node:
    return {
        "ErrorCode": {
            "type": "string",
            "description": "What went wrong, for programs:\n\n"
            + "\n".join(
                f"- `{code.value}` ({HTTP_STATUS[code]:d}): {entry.meaning} {entry.remedy}"
                for code, entry in CATALOGUE.items()
            ),
            "enum": [code.value for code in CATALOGUE],
        },
        "Error": object_of(
            "The envelope of every error.",
            ("error",),
            {
                "error": object_of(
                    "What went wrong.",
                    ("code", "message", "requestId", "docsUrl"),
                    {
                        "code": schema_ref("ErrorCode"),
                        "message": {
                            "type": "string",
                            "description": "What went wrong, for people. May be reworded.",
                        },
                        "requestId": schema_ref("RequestId"),
                        "docsUrl": {
                            "type": "string",
                            "format": "uri",
                            "description": "Where the code is explained.",
                        },
                    },
                )
            },
        ),
        "RefusedBatch": {
            "description": "The error of the first event of a batch of which none is stored.",
            "allOf": [
                schema_ref("Error"),
                object_of(
                    "What became of each event.",
                    ("accepted", "rejected", "batchLimit", "results"),
                    {
                        "accepted": {"type": "integer", "const": 0, "description": "Always 0."},
                        "rejected": count("How many events are not stored.") | {"minimum": 1},
                        "batchLimit": _batch_limit(),
                        "results": schema_ref("BatchResults"),
                    },
                ),
            ],
        },
    }
