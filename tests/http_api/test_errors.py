"""The errors of the core in HTTP: status, envelope and headers of each (contract section 3)."""

from __future__ import annotations

import json

import pytest

from core.error_codes import ErrorCode, docs_url
from core.errors import IngestError
from core.models import Rejection
from http_api.errors import HTTP_STATUS, METHOD_NOT_ALLOWED, NOT_FOUND, render_error

BASE_URL = "https://ingest.example"


def test_every_code_has_a_status() -> None:
    assert set(HTTP_STATUS) == set(ErrorCode)
    assert not {NOT_FOUND, METHOD_NOT_ALLOWED} & {code.value for code in ErrorCode}


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_has_the_envelope(code: ErrorCode) -> None:
    status, body, headers = render_error(IngestError(code, "a message"), "req_1", BASE_URL)
    assert status == HTTP_STATUS[code]
    assert json.loads(body) == {
        "error": {
            "code": code.value,
            "message": "a message",
            "requestId": "req_1",
            "docsUrl": docs_url(BASE_URL, code),
        }
    }
    assert headers == ({"WWW-Authenticate": "Bearer"} if status == 401 else {})


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (30.0, "30")]
)
def test_retry_after_is_whole_seconds_and_at_least_one(seconds: float, header: str) -> None:
    error = IngestError(ErrorCode.RATE_LIMITED, "later", retry_after_seconds=seconds)
    *_, headers = render_error(error, "req_1", BASE_URL)
    assert headers == {"Retry-After": header}


def test_a_refused_batch_tells_the_outcome_of_each_event() -> None:
    rejections = [
        Rejection(0, ErrorCode.MISSING_ACTOR, "events[0].actor: is required"),
        Rejection(1, ErrorCode.QUOTA_EXCEEDED, "events[1]: no"),
    ]
    error = IngestError(ErrorCode.MISSING_ACTOR, "first", rejected=rejections)
    _, body, _ = render_error(error, "req_1", BASE_URL)
    answer = json.loads(body)
    assert (answer["accepted"], answer["rejected"], answer["batchLimit"]) == (0, 2, 500)
    assert answer["results"] == {
        "accepted": [],
        "rejected": [
            {
                "index": 0,
                "code": "missing_actor",
                "message": "events[0].actor: is required",
            },
            {"index": 1, "code": "quota_exceeded", "message": "events[1]: no"},
        ],
    }
