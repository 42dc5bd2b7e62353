"""An organization with half a day of data, as the console shows it to the tests and on pictures."""

from __future__ import annotations

import random
from typing import Any, Final

import httpx

from core.timestamps import format_us
from tests.support.manual_time import ManualTime
from tests.support.tenant import Tenant, event

NAME: Final = "Northwind Trading"
CATEGORIES: Final = {
    "ticket.resolved": "project_management",
    "ticket.created": "project_management",
    "deal.won": "communication",
    "call.finished": "communication",
    "meeting.held": "calendar",
    "review.done": "code",
    "mockup.shared": "design",
}
PEOPLE: Final = {
    "ada@northwind.example": "Ada Lovelace",
    "grace@northwind.example": "Grace Hopper",
    "alan@northwind.example": "Alan Turing",
    "katherine@northwind.example": "Katherine Johnson",
    "edsger@northwind.example": "Edsger Dijkstra",
}
SECONDS: Final = 6 * 3_600.0  # of the events
_EVENTS: Final = 90
_SNAPSHOTS: Final = 30
_DAY_US: Final = 86_400_000_000


async def fill(base_url: str, tenant: Tenant, time: ManualTime) -> None:
    """Send events over some hours of that time, snapshots of a month, and some that are refused."""
    chance = random.Random(4)
    headers = {"Authorization": f"Bearer {tenant.key}"}
    async with httpx.AsyncClient(base_url=base_url, headers=headers) as client:

        async def send(endpoint: str, body: dict[str, Any], status: int) -> None:
            answer = await client.post(f"/api/v1/ingest/{endpoint}", json=body)
            assert answer.status_code == status, answer.text

        for number in range(_SNAPSHOTS):
            at = format_us(time.now_us - (_SNAPSHOTS - number) * _DAY_US)
            await send("snapshots", _snapshot(chance, number, at), 202)
        for _ in range(_EVENTS):
            time.advance(chance.uniform(0.2, 1.7) * SECONDS / _EVENTS)
            await send("events", {"events": [_event(chance)]}, 202)
        refused = event("crm-user-7", eventType="ticket.lost")
        await send("events", {"events": [refused]}, 403)
        await send("events", {"events": [event(duration="long"), _event(chance)]}, 207)


def _event(chance: random.Random) -> dict[str, Any]:
    event_type = chance.choice(list(CATEGORIES))
    mail = chance.choice(list(PEOPLE))
    actor = {"email": mail, "displayName": PEOPLE[mail]}
    whole = event(eventType=event_type, category=CATEGORIES[event_type], actor=actor)
    if chance.random() < 0.7:
        whole["duration"] = chance.choice([60, 95, 240, 900, 1_800, 3_960])
    if chance.random() < 0.6:
        whole["metadata"] = {
            "ticket_id": f"SUP-{chance.randint(100, 999)}",
            "tags": ["vip", "emea"],
            "amount": chance.randint(1, 90) * 100,
        }
    return whole


def _snapshot(chance: random.Random, number: int, at: str) -> dict[str, Any]:
    mail = "ada@northwind.example"
    return {
        "snapshotType": "service_desk",
        "timestamp": at,
        "actor": {"email": mail, "displayName": PEOPLE[mail]},
        "metrics": {
            "open": {
                "value": 24 - number // 3 + chance.randint(-3, 3),
                "unit": "count",
                "label": "Open tickets",
            },
            "satisfaction": {"value": round(0.78 + chance.random() * 0.15, 2), "unit": "ratio"},
            "load": "normal",
        },
    }
