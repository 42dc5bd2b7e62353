"""The limits promised to clients (contract section 2), each stated once.

Both APIs, the OpenAPI document and the reference page read them from here, so they cannot differ.
Bounds that protect the service itself stand beside the code they protect.
"""

from typing import Final

MAX_BATCH_EVENTS: Final = 500
MAX_BODY_BYTES: Final = 1_048_576  # after any decompression
MAX_JSON_BYTES: Final = 16_384  # metadata, metrics: each, as compact UTF-8 JSON
MAX_JSON_DEPTH: Final = 128  # of a document, from its root

TYPE_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{1,62}[A-Za-z0-9]$"  # eventType, snapshotType
MIN_TYPE_CHARACTERS: Final = 3
MAX_TYPE_CHARACTERS: Final = 64

MAX_DURATION_SECONDS: Final = 86_400
MAX_NAME_CHARACTERS: Final = 200  # externalId, displayName
MIN_EMAIL_CHARACTERS: Final = 3
MAX_EMAIL_CHARACTERS: Final = 320  # RFC 5321: 64 for the local part, "@", 255 for the domain
MAX_LABEL_CHARACTERS: Final = 200  # the string form of a metric

MAX_IDEMPOTENCY_KEY_CHARACTERS: Final = 200
IDEMPOTENCY_WINDOW_SECONDS: Final = 600

MAX_APP_PRODUCERS: Final = 10_000
PRODUCER_UNUSED_DAYS: Final = 90  # a producer that is not opened for so long may be forgotten

DEFAULT_KEY_REQUESTS_PER_SECOND: Final = 60
DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND: Final = 600

CATEGORIES: Final = (
    "communication",
    "project_management",
    "code",
    "calendar",
    "design",
    "ai_tools",
    "other",
)
METRIC_UNITS: Final = ("count", "minutes", "ratio", "percentage", "score")

API_VERSION: Final = "2026-04-01"
