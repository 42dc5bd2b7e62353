"""Uses the client that openapi-generator generates for Python."""

import datetime
import json
import os

import openapi_client as generated

resolved = generated.IngestEvent(
    event_type="ticket.resolved",
    category=generated.EventCategory.PROJECT_MANAGEMENT,
    actor=generated.Actor(external_id="crm-user-42", display_name="Alex Chen"),
    timestamp=datetime.datetime(2026, 4, 19, 12, 5, 30, 250_000, datetime.UTC),
    duration=240,
    metadata={"ticket": "SUP-431", "nested": {"list": [1, "two"]}},
)
unknown = generated.IngestEvent(
    event_type="not.whitelisted",
    category=generated.EventCategory.OTHER,
    actor=generated.Actor(email="alex@example.com"),
)
csat = generated.DetailedMetric(
    value=94.5, unit=generated.MetricUnit.PERCENTAGE, label="Satisfaction"
)
snapshot = generated.IngestSnapshot(
    snapshot_type="support.desk",
    actor=generated.Actor(external_id="crm-user-42"),
    metrics={
        "open": generated.Metric(16777217),
        "mood": generated.Metric("steady"),
        "csat": generated.Metric(csat),
    },
)

configuration = generated.Configuration(access_token=os.environ["KEY"])
with generated.ApiClient(configuration) as client:
    api = generated.IngestApi(client)
    app = api.ping().app
    batch = api.ingest_events_with_http_info(
        generated.IngestEventBatch(events=[resolved, unknown]), idempotency_key="generated-1"
    )
    card = api.ingest_snapshot(snapshot)
    try:
        api.ingest_events(generated.IngestEventBatch(events=[unknown]))
    except generated.ApiException as error:
        refused = [error.status, error.data.error.code]

print(
    json.dumps(
        {
            "app": app.slug,
            "status": batch.status_code,
            "accepted": [one.event_type for one in batch.data.results.accepted],
            "rejected": [[one.index, one.code] for one in batch.data.results.rejected],
            "worker": card.worker.display_name,
            "error": refused,
        }
    )
)
