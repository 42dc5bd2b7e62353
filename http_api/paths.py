"""The paths of the three endpoints (contract section 1), and the methods that read."""

from typing import Final

PING_PATH: Final = "/api/v1/ingest/ping"
EVENTS_PATH: Final = "/api/v1/ingest/events"
SNAPSHOTS_PATH: Final = "/api/v1/ingest/snapshots"

# HEAD is answered wherever GET is (RFC 9110, section 9.3.2); the server leaves out the body.
READING: Final = ["GET", "HEAD"]
