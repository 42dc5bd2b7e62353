"""The world of a history: what its clients share and send; random, and the same for a seed."""

from __future__ import annotations

import time
from collections import deque
from contextlib import AsyncExitStack
from random import Random
from typing import Any

from psycopg import AsyncConnection

from tests.behaviour.history.record import (
    WHITELIST,
    Answer,
    AppRecord,
    Body,
    History,
    Item,
    KeyRecord,
    Operation,
    OrganizationRecord,
    Setting,
)
from tests.conftest import MakeTenant
from tests.support.tenant import NOBODY, event, snapshot

ALWAYS, SOMETIMES, NEVER = "ticket.resolved", "deal.won", "not.allowed"
MAX_ITEMS = 6
ITEMS_A_WORKER = 100
MAX_NEW_WORKERS = 5
MAX_AT_A_MEETING = 6
MAX_REMEMBERED_BODIES = 30
FIXED_QUOTAS = (150, 700)
FIRST_QUOTA_THAT_MOVES = 60

_LOOK = {
    "events": "SELECT count(*) FROM events "
    "WHERE organization_id = %s AND metadata ->> 'marker' = ANY (%s)",
    "snapshots": "SELECT count(*) FROM snapshot_history "
    "WHERE organization_id = %s AND metadata ->> 'marker' = ANY (%s)",
}


class World:
    """The organizations, the bodies sent of late, and the workers that clients heard of.

    Its connections to the cells are closed with ``stack``.
    """

    def __init__(self, seed: int, seconds: float, stack: AsyncExitStack) -> None:
        self.history = History()
        self._stack = stack
        self._cells: dict[str, AsyncConnection[Any]] = {}
        self._looking = False
        self.seed = seed
        self.deadline = time.monotonic() + seconds
        self.seconds = seconds
        self.bodies: dict[KeyRecord, deque[Body]] = {}
        self.workers: dict[OrganizationRecord, list[str]] = {}
        self.doomed: list[KeyRecord] = []
        self._made = 0

    @property
    def open(self) -> bool:
        """Whether clients go on."""
        return time.monotonic() < self.deadline

    async def make_organizations(self, new_tenant: MakeTenant) -> None:
        """Make the organizations: without a quota, with one, with one that moves."""
        for quota in (None, None, *FIXED_QUOTAS, FIRST_QUOTA_THAT_MOVES):
            tenant = await new_tenant(monthly_quota=quota)
            if tenant.cell.name not in self._cells:
                connection = await self._stack.enter_async_context(await tenant.connect())
                self._cells[tenant.cell.name] = connection
            organization = OrganizationRecord(tenant, Setting(quota))
            self.history.organizations.append(organization)
            self.workers[organization] = []
            for one in (tenant, await tenant.another_app()):
                app = AppRecord(one.app.id, organization)
                keys = [KeyRecord(one, app), KeyRecord(await one.another_key(), app)]
                self.doomed.append(keys[-1])
                for key in keys:
                    self.history.keys.append(key)
                    self.bodies[key] = deque(maxlen=MAX_REMEMBERED_BODIES)
        self.deadline = time.monotonic() + self.seconds

    def random(self, client: object) -> Random:
        """A client's own dice, the same for the same seed."""
        return Random(f"{self.seed} {client}")

    # --- what is sent ---------------------------------------------------------------------------

    def body(self, dice: Random, key: KeyRecord, **members: Any) -> Body:
        """A new batch of events."""
        items = [self._event(dice, key) for _ in range(dice.randint(1, MAX_ITEMS))]
        return Body(key, "events", items, **members)

    def _marker(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{self._made}"

    def _actor(self, dice: Random, app: AppRecord) -> tuple[dict[str, str], str | None]:
        # New workers come all the time, and several clients name each at about the same time.
        number = self._made // ITEMS_A_WORKER + dice.randrange(MAX_NEW_WORKERS)
        address = f"{dice.choice(('zoë', 'ZOË', 'Zoë'))}.{number}@{dice.choice(('a.eu', 'A.EU'))}"
        match dice.randrange(9):
            case 0 | 1:
                return {"externalId": f"link-{number}"}, None
            case 2:
                return {"email": f"mail-{address}", "displayName": f"Zoë {number}"}, None
            case 3:
                return {"externalId": f"both-{number}", "email": f"both-{address}"}, None
            case 4:
                return {"email": f"both-{address}"}, None
            case 5:
                return {"externalId": f"mixed-{number}", "email": f"mixed-{address}"}, None
            case 6:
                mixed = {"externalId": f"mixed-{number}"}
                return dice.choice((mixed, {"email": f"mixed-{address}"})), None
            case 7:
                if known := self.workers[app.organization]:
                    return {"workerId": dice.choice(known)}, None
                return {"externalId": f"link-{number}"}, None
            case _:
                strangers = [
                    worker
                    for organization, workers in self.workers.items()
                    if organization is not app.organization
                    for worker in workers
                ]
                return {"workerId": dice.choice([NOBODY, *strangers])}, "worker_not_found"

    def _event(self, dice: Random, key: KeyRecord) -> Item:
        marker = self._marker("e")
        actor, verdict = self._actor(dice, key.app)
        whole = event(eventType=ALWAYS, actor=actor, metadata={"marker": marker})
        if dice.random() < 0.3:
            whole["timestamp"] = f"2026-04-19T12:00:00.{dice.randrange(1, 10**6):06}Z"
        match dice.randrange(12):
            case 0:
                return Item(marker, whole | {"duration": -1}, "invalid_body")
            case 1:
                return Item(marker, whole | {"actor": {"displayName": "Zoë"}}, "missing_actor")
            case 2:
                return Item(marker, whole | {"eventType": NEVER}, "forbidden_event_type")
            case 3 | 4 if verdict is None:
                return Item(marker, whole | {"eventType": SOMETIMES}, WHITELIST)
            case _:
                return Item(marker, whole, verdict)

    def snapshot_body(self, dice: Random, key: KeyRecord, name: str | None) -> Body:
        """A new snapshot; those of a type compete for a few cards with a few timestamps."""
        marker = self._marker("s")
        actor, verdict = self._actor(dice, key.app)
        if verdict is None and "workerId" not in actor and dice.random() < 0.5:
            actor = {"externalId": "link-0"}
        whole = snapshot(actor=actor, metadata={"marker": marker})
        if dice.random() < 0.2:
            whole |= {"snapshotType": "as_received"}
        else:
            whole |= {"timestamp": f"2026-04-19T12:0{dice.randrange(4)}:00Z"}
        if dice.random() < 0.1:
            whole, verdict = whole | {"metrics": {"open": None}}, "invalid_body"
        return Body(key, "snapshots", [Item(marker, whole, verdict)], name)

    def choose(self, dice: Random, key: KeyRecord, endpoint: str | None = None) -> Body:
        """The body to send next: a new one, one sent of late, or its key with other data."""
        recent = [
            body for body in self.bodies[key] if endpoint is None or body.endpoint == endpoint
        ]
        if recent and dice.random() < 0.4:
            body = dice.choice(recent)
            if dice.random() < 0.8:
                return body
            return self._new(dice, key, body.endpoint, body.idempotency_key)
        # Few enough for the endpoints to meet by the same idempotency key, which concerns nobody.
        name = f"key-{dice.randrange(10_000)}" if dice.random() < 0.6 else None
        either = "events" if dice.random() < 0.75 else "snapshots"
        body = self._new(dice, key, endpoint or either, name)
        if name is not None:
            self.bodies[key].append(body)
        return body

    def _new(self, dice: Random, key: KeyRecord, endpoint: str, name: str | None) -> Body:
        if endpoint == "events":
            return self.body(dice, key, idempotency_key=name)
        return self.snapshot_body(dice, key, name)

    def meeting(self, dice: Random, organization: OrganizationRecord) -> list[Body]:
        """Batches that all name one new person, by e-mail, most by the app's own id as well."""
        person = f"new-{self._marker('p')}"
        keys = [key for key in self.history.keys if key.organization is organization]
        bodies = []
        for _ in range(MAX_AT_A_MEETING):
            actor = {"email": dice.choice((person, person.upper())) + "@a.eu"}
            if dice.random() < 0.7:
                actor["externalId"] = f"both-{person}"
            marker = self._marker("e")
            whole = event(eventType=ALWAYS, actor=actor, metadata={"marker": marker})
            bodies.append(Body(dice.choice(keys), "events", [Item(marker, whole, None)]))
        return bodies

    def begin(self, body: Body, protocol: str) -> Operation:
        """Note that something is sent now."""
        operation = Operation(body, protocol, time.monotonic())
        self.history.operations.append(operation)
        return operation

    async def end(self, operation: Operation, answer: Answer) -> None:
        """Note an answer that came now; often enough, look whether it was true when it came."""
        operation.ended, operation.answer = time.monotonic(), answer
        body = operation.body
        if answer.wrote and not self._looking:
            self._looking = True
            tenant = body.key.organization.tenant
            values = (tenant.organization.id, [item.marker for item in body.items])
            cursor = await self._cells[tenant.cell.name].execute(_LOOK[body.endpoint], values)
            row = await cursor.fetchone()
            self._looking = False
            if row is None or row[0] != answer.accepted:
                self.history.violations.append(
                    f"answered before the commit: {row} stored of {body.items[0].marker}: {answer}"
                )
        if answer.worker_id is not None:
            self.workers[body.key.organization].append(answer.worker_id)
