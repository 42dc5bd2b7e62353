"""A record of everything that clients and operators did, and when: the input of the model."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Generic, TypeVar
from uuid import UUID

from tests.support.driver import Reply
from tests.support.tenant import Tenant

T = TypeVar("T")

# A change is in force within one second. The rest is for a busy machine: time that passes between
# a client's clock and the service is no fault of the service.
IN_FORCE_SECONDS = 1.0 + 1.5


class Setting(Generic[T]):
    """Something an operator changes: its values, and between which moments each began to hold."""

    def __init__(self, value: T) -> None:
        self._changes: list[tuple[float, float, T]] = [(-inf, -inf, value)]

    async def change(self, value: T, change: Awaitable[object]) -> None:
        """An operator's change: clients may meet it from its call on, and do from its return on."""
        began = time.monotonic()
        self._changes.append((began, inf, value))
        await change
        self._changes[-1] = (began, time.monotonic(), value)

    def possible(self, began: float, ended: float) -> set[T]:
        """Every value that may have held at some moment of a span of time."""
        values: set[T] = set()
        replaced = inf
        for change_began, change_ended, value in reversed(self._changes):
            if change_began <= ended and replaced + IN_FORCE_SECONDS >= began:
                values.add(value)
            replaced = change_ended
        return values

    @property
    def values(self) -> list[T]:
        """Every value it ever had."""
        return [value for _, _, value in self._changes]


@dataclass(eq=False)
class OrganizationRecord:
    """An organization and what was changed about it."""

    tenant: Tenant
    quota: Setting[int | None]
    plan: Setting[bool] = field(default_factory=lambda: Setting(True))


@dataclass(eq=False)
class AppRecord:
    """An app, and whether the event type that comes and goes is on its whitelist."""

    id: UUID
    organization: OrganizationRecord
    whitelisted: Setting[bool] = field(default_factory=lambda: Setting(True))


@dataclass(eq=False)
class KeyRecord:
    """An API key."""

    tenant: Tenant
    app: AppRecord
    revoked: Setting[bool] = field(default_factory=lambda: Setting(False))

    @property
    def organization(self) -> OrganizationRecord:
        """The organization whose key it is."""
        return self.app.organization


@dataclass(eq=False)
class Item:
    """An event or snapshot. ``marker`` is in its metadata and in no other item's.

    ``verdict``: the code it must be rejected with, None for a good one; ``WHITELIST`` if that
    depends on the whitelist.
    """

    marker: str
    json: dict[str, Any]
    verdict: str | None

    @property
    def actor(self) -> dict[str, str]:
        """The person it is about."""
        actor: dict[str, str] = self.json["actor"]
        return actor


WHITELIST = "as the whitelist says"


@dataclass(eq=False)
class Body:
    """The content of a request; sent more than once only with an idempotency key or a sequence.

    No two bodies are equal, for no two items are. ``number`` is the sequence of a producer's batch.
    """

    key: KeyRecord
    endpoint: str
    items: Sequence[Item]
    idempotency_key: str | None = None
    producer_id: str | None = None
    number: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer in the words that HTTP, gRPC and acks have in common.

    ``code`` with nothing in ``rejected``: the request as a whole was refused. ``echoes`` is None in
    acks, which only count. An equal request must get the same ``exact`` by the same protocol.
    """

    code: str | None
    accepted: int
    rejected: tuple[tuple[int, str, str], ...] = ()
    request_id: str = ""
    message: str = ""
    echoes: tuple[tuple[str, str], ...] | None = None
    worker_id: str | None = None
    replayed: bool = False
    duplicate: bool = False
    quota_left: int | None = None
    exact: object = None

    @classmethod
    def of(cls, reply: Reply, endpoint: str) -> Answer:
        """The answer to a unary request."""
        snapshot = endpoint == "snapshots" and reply.code is None
        return cls(
            code=reply.code,
            accepted=1 if snapshot else len(reply.accepted),
            rejected=tuple((one.index, one.code, one.message) for one in reply.rejected),
            request_id=reply.request_id,
            message=reply.message,
            echoes=tuple(reply.accepted),
            worker_id=reply.body["worker"]["id"] if snapshot else None,
            replayed=reply.replayed,
            exact=reply.answer,
        )

    @property
    def wrote(self) -> bool:
        """Whether it says that this very request stored something."""
        return self.accepted > 0 and not self.replayed and not self.duplicate

    @property
    def proves_commit(self) -> bool:
        """Whether it says that the body is committed, by this request or an earlier one."""
        return self.accepted > 0 or self.duplicate

    @property
    def names_other_body(self) -> bool:
        """Whether the idempotency key is said to be that of a different body."""
        return self.code == "invalid_body" and "different body" in self.message

    @property
    def told(self) -> object:
        """The parts that every protocol tells alike."""
        return self.request_id, self.accepted, self.rejected, self.worker_id


@dataclass(eq=False)
class Operation:
    """One sending of a body. ``answer`` is None if the client never learned it."""

    body: Body
    protocol: str  # or "stream"
    began: float
    ended: float = inf
    answer: Answer | None = None

    def __str__(self) -> str:
        body = self.body
        return (
            f"{body.endpoint} {body.items[0].marker}+{len(body.items) - 1} by {self.protocol} "
            f"[{self.began:.3f}, {self.ended:.3f}] key {body.idempotency_key} "
            f"sequence {body.number}: {self.answer}"
        )


Attempts = Mapping[Body, Sequence[Operation]]  # of one organization


@dataclass(eq=False)
class History:
    """Everything that was done, and what clients found wrong while doing it."""

    organizations: list[OrganizationRecord] = field(default_factory=list)
    keys: list[KeyRecord] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
