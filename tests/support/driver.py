"""The behaviour suite's view of a protocol: one small interface, an implementation for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

JsonObject = Mapping[str, Any]


@dataclass(frozen=True)
class Rejected:
    """One rejected item as the client sees it."""

    index: int
    code: str
    message: str


@dataclass(frozen=True)
class Reply:
    """An answer, in words that both protocols have.

    ``code`` is None if something was accepted. ``answer`` is what an equal retry must repeat.
    """

    code: str | None
    request_id: str
    message: str = ""
    docs_url: str = ""
    accepted: Sequence[tuple[str, str]] = ()  # (eventType, timestamp)
    rejected: Sequence[Rejected] = ()
    body: JsonObject = field(default_factory=dict)  # ping and snapshots
    replayed: bool = False
    rate_limit: int | None = None
    rate_remaining: int | None = None
    retry_after_seconds: float | None = None
    answer: object = None

    @property
    def codes(self) -> list[str]:
        """The codes of the rejected items, in order."""
        return [rejected.code for rejected in self.rejected]


class Driver(Protocol):
    """A client of one protocol. Events and snapshots are given as their JSON form."""

    name: str

    async def ping(self, key: str | None) -> Reply:
        """Ask who the key belongs to; None sends no credential."""
        ...

    async def ingest(
        self,
        key: str | None,
        events: Sequence[JsonObject],
        idempotency_key: str | None = None,
    ) -> Reply:
        """Send a batch."""
        ...

    async def snapshot(
        self, key: str | None, snapshot: JsonObject, idempotency_key: str | None = None
    ) -> Reply:
        """Send a snapshot."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
