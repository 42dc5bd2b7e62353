"""The paths of the three endpoints (contract section 1)."""

from typing import Final

PING_PATH: Final = "/api/v1/ingest/ping"
EVENTS_PATH: Final = "/api/v1/ingest/events"
SNAPSHOTS_PATH: Final = "/api/v1/ingest/snapshots"
