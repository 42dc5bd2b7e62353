"""The error codes of the service, and when a repeat can cure them."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Retry(Enum):
    """Whether and when a request can succeed that got an error."""

    NEVER = "fix the request first"
    AFTER_CHANGE = "an administrator has to change the key, plan, quota or whitelist first"
    LATER = "the same request can succeed later"


RETRY_BY_CODE: Final[dict[str, Retry]] = {
    "missing_authorization": Retry.NEVER,
    "invalid_key": Retry.NEVER,
    "key_revoked": Retry.AFTER_CHANGE,
    "key_expired": Retry.AFTER_CHANGE,
    "plan_disabled": Retry.AFTER_CHANGE,
    "quota_exceeded": Retry.AFTER_CHANGE,
    "rate_limited": Retry.LATER,
    "forbidden_event_type": Retry.AFTER_CHANGE,
    "invalid_body": Retry.NEVER,
    "batch_too_large": Retry.NEVER,
    "missing_actor": Retry.NEVER,
    "worker_not_found": Retry.NEVER,
    "internal_error": Retry.LATER,
}
