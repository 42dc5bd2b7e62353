"""Send events and a snapshot over REST, and tell what became of each.

Usage: WEPEOPLE_BASE_URL=https://wepeople.app WEPEOPLE_API_KEY=wp_live_… python rest.py
"""

import os
import sys
from datetime import UTC, datetime

from wepeople_ingest_client import (
    Actor,
    ApiError,
    Client,
    DetailedMetric,
    Event,
    NoAnswerError,
    Snapshot,
)


def resolved(ticket: str, agent: str) -> Event:
    """The event of a ticket that an agent has resolved now."""
    return Event(
        event_type="ticket.resolved",
        category="project_management",
        actor=Actor(external_id=agent),
        timestamp=datetime.now(UTC),
        duration=240,
        metadata={"ticket_id": ticket},
    )


def send(client: Client) -> None:
    """Send three events, of which the last is not whitelisted, and a snapshot."""
    app = client.ping().app
    print(f"sending as {app.name} ({app.slug})")

    unknown = Event(
        event_type="deploy.shipped", category="code", actor=Actor(external_id="crm-user-42")
    )
    result = client.ingest_events(
        [resolved("SUP-431", "crm-user-42"), resolved("SUP-432", "crm-user-43"), unknown]
    )
    print(f"{len(result.accepted)} events are stored")
    for rejected in result.rejected:
        print(f"event {rejected.index} is not: {rejected.message}")
    print(f"worth another try after a change of the whitelist: {list(result.retryable)}")

    card = Snapshot(
        snapshot_type="support.desk",
        actor=Actor(external_id="crm-user-42", display_name="Alex Chen"),
        metrics={
            "tickets_open": 7,
            "mood": "steady",
            "csat": DetailedMetric(94.5, "percentage", "Customer satisfaction"),
        },
    )
    print(f"the card of {client.ingest_snapshot(card).worker.display_name} is stored")


def main() -> None:
    """Send, and explain a failure."""
    with Client(os.environ["WEPEOPLE_BASE_URL"], os.environ["WEPEOPLE_API_KEY"]) as client:
        try:
            send(client)
        except ApiError as error:
            sys.exit(f"{error.code}: {error.message}\nsee {error.docs_url}")
        except NoAnswerError as error:
            sys.exit(f"{error}; it may be stored, and is safe to send again with its key")


if __name__ == "__main__":
    main()
