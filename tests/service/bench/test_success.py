"""The answers of a load that count as success."""

from __future__ import annotations

from typing import Any

import pytest

from service.bench.success import Success

ANSWER = {"accepted": 2, "errors": False, "count": "7", "items": [{"status": 201}, {"status": 400}]}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, None),
        ({"path": "accepted", "equals": 2}, None),
        ({"path": "accepted", "equals": 3}, "has 2 at accepted, not 3"),
        ({"path": "errors", "equals": False}, None),
        ({"path": "errors", "equals": 0}, "has False at errors, not 0"),
        ({"path": "count", "equals": 7}, None),  # as JSON of protobuf has 64 bits
        ({"path": "items.#", "equals": 2}, None),
        ({"path": "items.0.status", "equals": 201}, None),
        ({"path": "items.1.status", "equals": 201}, "has 400 at items.1.status, not 201"),
        ({"path": "items.2.status", "equals": 201}, "has nothing at items.2.status"),
        ({"path": "accepted.#", "equals": 2}, "has nothing at accepted.#"),
        (
            {"path": "partialSuccess.rejected", "equals": 0},
            "has nothing at partialSuccess.rejected",
        ),
        ({"path": "partialSuccess.rejected", "equals": 0, "optional": True}, None),
        ({"path": "accepted", "equals": 0, "optional": True}, "has 2 at accepted, not 0"),
    ],
)
def test_an_answer_is_judged_by_the_value_at_a_path(
    options: dict[str, Any], problem: str | None
) -> None:
    found = Success(**options).problem(ANSWER)
    assert found == (None if problem is None else f"an answer {problem}")
