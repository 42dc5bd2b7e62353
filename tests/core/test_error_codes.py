"""The error catalogue."""

from __future__ import annotations

from core.error_codes import CATALOGUE, STREAM_REASONS, ErrorCode, StreamReason, docs_url


def test_the_codes_that_clients_depend_on_never_change() -> None:
    assert [code.value for code in ErrorCode] == [
        "missing_authorization",
        "invalid_key",
        "key_revoked",
        "key_expired",
        "plan_disabled",
        "quota_exceeded",
        "rate_limited",
        "forbidden_event_type",
        "invalid_body",
        "batch_too_large",
        "missing_actor",
        "worker_not_found",
        "internal_error",
    ]


def test_every_code_and_reason_is_documented() -> None:
    assert list(CATALOGUE) == list(ErrorCode)
    assert list(STREAM_REASONS) == list(StreamReason)
    for entry in CATALOGUE.values():
        assert entry.meaning.endswith(".")
        assert entry.remedy.endswith(".")


def test_the_documentation_of_a_code_has_its_url() -> None:
    url = docs_url("https://example.org", ErrorCode.RATE_LIMITED)
    assert url == "https://example.org/developers/reference#rate_limited"
