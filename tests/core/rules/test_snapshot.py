"""The rules of snapshots."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.errors import IngestError
from core.models import Actor, Snapshot
from core.rules.snapshot import CheckedSnapshot, check_snapshot, check_texts
from core.slices import at_once
from tests.support.strategies import CALLER

RECEIVED_US = 1_776_600_300_123_456


def check(snapshot: Snapshot) -> CheckedSnapshot:
    return check_snapshot(CALLER, snapshot, at_once(check_texts(snapshot)), RECEIVED_US)


def refusal(snapshot: Snapshot) -> IngestError:
    with pytest.raises(IngestError) as caught:
        check(snapshot)
    return caught.value


def with_metrics(metrics: Any) -> Snapshot:
    return Snapshot("tickets_open", json.dumps(metrics).encode(), Actor(external_id="crm-42"))


def test_a_valid_snapshot_is_ready_to_be_stored() -> None:
    metrics, metadata = b'{"open": 12.50}', b'{"a": 1}'
    snapshot = Snapshot("not.whitelisted", metrics, Actor(email="a@b"), 5, metadata)
    checked = check(snapshot)
    assert checked.snapshot_type == "not.whitelisted"
    assert (checked.metrics, checked.metadata) == ('{"open":12.50}', '{"a":1}')
    assert checked.occurred_us == 5


def test_the_time_of_receipt_stands_for_a_missing_timestamp() -> None:
    assert check(with_metrics({})).occurred_us == RECEIVED_US


@pytest.mark.parametrize(
    "metric",
    [
        *(0, -1.5, "", "x" * 200),
        {"value": 1},
        {"value": 1, "unit": "ratio", "label": "", "more": None},
    ],
)
def test_a_metric_is_a_number_a_label_or_an_object_with_a_value(metric: Any) -> None:
    checked = check(with_metrics({"open": metric}))
    assert json.loads(checked.metrics) == {"open": metric}


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        (True, "metrics.open: must be a finite number, a string or an object"),
        (None, "metrics.open: must be a finite number, a string or an object"),
        ([1], "metrics.open: must be a finite number, a string or an object"),
        ("x" * 201, "metrics.open: must be 0 to 200 characters"),
        ({}, "metrics.open.value: must be a finite number"),
        ({"value": False}, "metrics.open.value: must be a finite number"),
        ({"value": 1, "unit": "hours"}, "metrics.open.unit: must be one of count"),
        ({"value": 1, "label": 1}, "metrics.open.label: must be a string"),
        ({"value": 1, "label": "x" * 201}, "metrics.open.label: must be 0 to 200 characters"),
    ],
)
def test_any_other_metric_is_refused_with_its_path(metric: Any, problem: str) -> None:
    error = refusal(with_metrics({"open": metric}))
    assert error.code == "invalid_body"
    assert error.message.startswith(problem)


def test_all_broken_rules_are_told_at_once() -> None:
    error = refusal(Snapshot("?", b"[]", Actor(email="nobody"), "now", b"1"))
    for member in ("snapshotType", "actor.email", "timestamp", "metrics", "metadata"):
        assert f"{member}: " in error.message


def test_a_long_metric_name_is_cut_off_in_the_message() -> None:
    assert len(refusal(with_metrics({"x" * 5_000: None})).message) < 300


@pytest.mark.parametrize("actor", [None, Actor(), Actor(display_name="Alex")])
def test_an_actor_that_names_nobody_is_missing(actor: Actor | None) -> None:
    assert refusal(Snapshot("tickets_open", b"{}", actor)).code == "missing_actor"
