"""Limits of the service that a client keeps to by itself."""

from typing import Final

MAX_BATCH_EVENTS: Final = 500
MAX_REQUEST_BYTES: Final = 1_048_576  # a body or a message, uncompressed
MAX_DURATION_SECONDS: Final = 86_400  # of an event
MAX_IDEMPOTENCY_KEY_CHARACTERS: Final = 200
IDEMPOTENCY_WINDOW_SECONDS: Final = 600
