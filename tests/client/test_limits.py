"""The limits that the client keeps to."""

from __future__ import annotations

import core.limits
from wepeople_ingest_client import limits


def test_the_limits_are_those_of_the_service() -> None:
    assert limits.MAX_BATCH_EVENTS == core.limits.MAX_BATCH_EVENTS
    assert limits.MAX_REQUEST_BYTES == core.limits.MAX_BODY_BYTES
    assert limits.MAX_IDEMPOTENCY_KEY_CHARACTERS == core.limits.MAX_IDEMPOTENCY_KEY_CHARACTERS
    assert limits.IDEMPOTENCY_WINDOW_SECONDS == core.limits.IDEMPOTENCY_WINDOW_SECONDS
    assert limits.MAX_DURATION_SECONDS == core.limits.MAX_DURATION_SECONDS
