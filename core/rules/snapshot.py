"""The rules of a snapshot that need no database (contract section 6).

A snapshot is a single item, so its first failure refuses the request.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from core import json_text, limits
from core.error_codes import ErrorCode
from core.errors import IngestError
from core.json_text import Stored
from core.models import Caller, Snapshot, WorkerName
from core.rules import fields
from core.slices import Sliced

MAX_METRIC_NAME_SHOWN_CHARACTERS: Final = 100

_decode_metrics: Final = msgspec.json.Decoder(dict[str, Any], float_hook=float).decode


class CheckedSnapshot(Struct, frozen=True):
    """A snapshot that passed the rules. The database decides later whether its worker exists.

    ``metrics`` and ``metadata``: the JSON texts to store. ``occurred_us``: microseconds since the
    epoch.
    """

    snapshot_type: str
    worker_name: WorkerName
    occurred_us: int
    metrics: str
    metadata: str | None


def check_texts(snapshot: Snapshot) -> Sliced[Stored]:
    """The metrics and the metadata to store (:func:`json_text.check_all`)."""
    return json_text.check_all([snapshot.metrics, snapshot.metadata], json_text.MAX_SNAPSHOT_DEPTH)


def check_snapshot(
    caller: Caller, snapshot: Snapshot, stored: Stored, received_us: int
) -> CheckedSnapshot:
    """Check a snapshot, in the order of contract section 5.

    Raises ``invalid_body`` with all broken rules of its fields, or ``missing_actor``. The whitelist
    is of event types, so any snapshot type may be sent. ``stored``: the result of
    :func:`check_texts`. ``received_us``: microseconds since the epoch, for a snapshot without a
    timestamp.
    """
    issues = _issues(snapshot, stored)
    if issues:
        raise IngestError(ErrorCode.INVALID_BODY, fields.issues_message(issues))
    actor = snapshot.actor
    name = None if actor is None else fields.worker_name(actor, caller)
    if name is None:
        raise IngestError(ErrorCode.MISSING_ACTOR, fields.NO_ACTOR)
    metrics, metadata = stored
    assert isinstance(metrics, bytes)
    return CheckedSnapshot(
        snapshot.snapshot_type,
        name,
        received_us if snapshot.timestamp is None else fields.instant(snapshot.timestamp),
        metrics.decode(),
        metadata.decode() if isinstance(metadata, bytes) else None,
    )


def _issues(snapshot: Snapshot, stored: Stored) -> list[str]:
    metrics, metadata = stored
    return [
        *fields.issue("snapshotType", fields.type_name, snapshot.snapshot_type),
        *fields.actor_issues(snapshot.actor),
        *fields.issue("timestamp", fields.moment, snapshot.timestamp),
        *_metrics_issues(metrics),
        *([f"metadata: {metadata}"] if isinstance(metadata, ValueError) else []),
    ]


def _metrics_issues(stored: bytes | ValueError | None) -> list[str]:
    if not isinstance(stored, bytes):
        return [f"metrics: {stored}"]
    # msgspec's own conversion of fractions can be very slow (core/json_text.py).
    metrics = _decode_metrics(stored)
    return [issue for name, metric in metrics.items() for issue in _metric_issues(name, metric)]


def _metric_issues(name: str, metric: object) -> list[str]:
    path = f"metrics.{name[:MAX_METRIC_NAME_SHOWN_CHARACTERS]}"
    if isinstance(metric, str):
        return fields.issue(path, _label, metric)
    if not isinstance(metric, dict):
        if _is_number(metric):
            return []
        return [f"{path}: must be a finite number, a string or an object with a value"]
    issues = []
    if not _is_number(metric.get("value")):
        issues.append(f"{path}.value: must be a finite number")
    if "unit" in metric and metric["unit"] not in limits.METRIC_UNITS:
        issues.append(f"{path}.unit: must be one of {', '.join(limits.METRIC_UNITS)}")
    if "label" in metric:
        label = metric["label"]
        issues += (
            fields.issue(f"{path}.label", _label, label)
            if isinstance(label, str)
            else [f"{path}.label: must be a string"]
        )
    return issues


def _is_number(value: object) -> bool:
    # In Python, unlike in JSON, a bool is an int. Numbers that are not finite are not stored.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _label(value: str) -> str:
    return fields.text(value, limits.MAX_LABEL_CHARACTERS, least=0)
