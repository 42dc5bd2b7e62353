"""Uses the client that openapi-python-client generates."""

import datetime
import json
import os

from ingest import AuthenticatedClient
from ingest.api.ingest import ingest_events, ingest_snapshot, ping
from ingest.models import (
    Actor,
    BatchError,
    DetailedMetric,
    EventCategory,
    IngestBatchResponse,
    IngestEvent,
    IngestEventBatch,
    IngestEventMetadata,
    IngestSnapshot,
    IngestSnapshotMetrics,
    MetricUnit,
    PingResponse,
    SnapshotResponse,
)

client = AuthenticatedClient(base_url=os.environ["BASE_URL"], token=os.environ["KEY"])
resolved = IngestEvent(
    event_type="ticket.resolved",
    category=EventCategory.PROJECT_MANAGEMENT,
    actor=Actor(external_id="crm-user-42", display_name="Alex Chen"),
    timestamp=datetime.datetime(2026, 4, 19, 12, 5, 30, 250_000, datetime.UTC),
    duration=240,
    metadata=IngestEventMetadata.from_dict({"ticket": "SUP-431", "nested": {"list": [1, "two"]}}),
)
unknown = IngestEvent(
    event_type="not.whitelisted",
    category=EventCategory.OTHER,
    actor=Actor(email="alex@example.com"),
)
metrics = IngestSnapshotMetrics()
metrics["open"] = 16777217
metrics["mood"] = "steady"
metrics["csat"] = DetailedMetric(value=94.5, unit=MetricUnit.PERCENTAGE, label="Satisfaction")

app = ping.sync(client=client)
assert isinstance(app, PingResponse)
batch = ingest_events.sync_detailed(
    client=client,
    body=IngestEventBatch(events=[resolved, unknown]),
    idempotency_key="generated-1",
)
assert isinstance(batch.parsed, IngestBatchResponse)
card = ingest_snapshot.sync(
    client=client,
    body=IngestSnapshot(
        snapshot_type="support.desk", actor=Actor(external_id="crm-user-42"), metrics=metrics
    ),
)
assert isinstance(card, SnapshotResponse)
refused = ingest_events.sync_detailed(client=client, body=IngestEventBatch(events=[unknown]))
assert isinstance(refused.parsed, BatchError)
print(
    json.dumps(
        {
            "app": app.app.slug,
            "status": int(batch.status_code),
            "accepted": [one.event_type for one in batch.parsed.results.accepted],
            "rejected": [[one.index, one.code] for one in batch.parsed.results.rejected],
            "worker": card.worker.display_name,
            "error": [int(refused.status_code), refused.parsed.error.code],
        }
    )
)
