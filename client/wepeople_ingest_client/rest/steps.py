"""What a call asks of whoever does its I/O: to send a request, or to wait."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from wepeople_ingest_client.rest.errors import NoAnswerError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to send, once. ``path`` is relative to the base URL."""

    method: str
    path: str
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A time to let pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response; the names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


# A request is replied to by an answer or the reason why there is none, a pause by None.
Reply: TypeAlias = Answer | NoAnswerError | None
Steps: TypeAlias = Generator[Request | Pause, Reply, T]
Clock: TypeAlias = Callable[[], float]
