"""Traces of requests and of the transactions that write them, whatever records them.

Without a tracer nothing is recorded, and a request pays for a comparison with None. The service
implements these protocols with OpenTelemetry (service/spans.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple, Protocol, TypeVar
from uuid import UUID

from core import ids

# A caller's tracestate is kept in memory until its spans are exported; a longer one is not taken
# over, as W3C Trace Context allows.
MAX_TRACESTATE_CHARACTERS: Final = 512

Attributes = Mapping[str, str | int]
T = TypeVar("T")


class Parent(NamedTuple):
    """The caller's span in W3C Trace Context, as sent."""

    traceparent: str
    tracestate: str

    @classmethod
    def of(cls, traceparents: Sequence[str], tracestates: Sequence[str]) -> Parent | None:
        """The parent by the values of the two fields; None unless there is one traceparent."""
        if len(traceparents) != 1:
            return None
        tracestate = ",".join(tracestates)
        if len(tracestate) > MAX_TRACESTATE_CHARACTERS:
            tracestate = ""
        return cls(traceparents[0], tracestate)


class Span(Protocol):
    """A request, or a batch of a stream, until it is answered."""

    @property
    def traceparent(self) -> str:
        """The span in W3C Trace Context, for the caller."""

    def begin_batch(self) -> Span:
        """The span of a batch of this stream, in a trace of its own: a stream lasts for hours."""

    def annotate(self, attributes: Attributes) -> None:
        """Add attributes."""

    def end(self, code: str | None) -> None:
        """End it; ``code`` is the code of the error that it is answered with, None for success."""


class Step(Protocol):
    """Awaits a step of a transaction, in a span of this name."""

    def __call__(self, name: str, work: Awaitable[T]) -> Awaitable[T]: ...


class Tracer(Protocol):
    """Records spans. It never waits and raises nothing."""

    def begin_request(self, name: str, parent: Parent | None, attributes: Attributes) -> Span:
        """Begin the span of a request; ``parent`` is the caller's."""

    def transaction(
        self, members: Sequence[Span], attributes: Attributes
    ) -> AbstractContextManager[Step]:
        """Record the block as a transaction that writes these requests, linked with each."""


def _untraced(name: str, work: Awaitable[T]) -> Awaitable[T]:
    return work


UNTRACED: Final[Step] = _untraced
UNTRACED_TRANSACTION: Final = nullcontext(UNTRACED)


class _Caller(Protocol):
    @property
    def organization_id(self) -> UUID: ...
    @property
    def app_slug(self) -> str: ...


def request_attributes(
    request_id: str, caller: _Caller | None, events: int | None
) -> dict[str, str | int]:
    """The attributes of a request's span that are the same for each protocol."""
    attributes: dict[str, str | int] = {"wepeople.request_id": request_id}
    if caller is not None:
        attributes["wepeople.organization"] = ids.text(ids.ORGANIZATION, caller.organization_id)
        attributes["wepeople.app"] = caller.app_slug
    if events is not None:
        attributes["wepeople.events"] = events
    return attributes
