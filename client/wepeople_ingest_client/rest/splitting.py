"""Lists of events, cut into parts that one request can hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from wepeople_ingest_client.encoding import encode
from wepeople_ingest_client.limits import (
    MAX_BATCH_EVENTS,
    MAX_IDEMPOTENCY_KEY_CHARACTERS,
    MAX_REQUEST_BYTES,
)
from wepeople_ingest_client.models import AnyEvent

_HEAD: Final = b'{"events":['
_TAIL: Final = b"]}"


@dataclass(frozen=True, slots=True)
class Part:
    """The body of one request, and the places of its events in the list."""

    body: bytes
    places: range


def split(events: Iterable[AnyEvent]) -> list[Part]:
    """Return the fewest parts that keep the order of the events.

    Equal lists are cut in the same way. Raises ValueError, which names the event, if one cannot be
    written as JSON or is too large for a request.
    """
    return list(_parts(events))


def _parts(events: Iterable[AnyEvent]) -> Iterator[Part]:
    texts: list[bytes] = []
    first, size = 0, len(_HEAD) + len(_TAIL)
    for place, event in enumerate(events):
        text = _encode(place, event)
        if texts and (len(texts) == MAX_BATCH_EVENTS or size + len(text) > MAX_REQUEST_BYTES):
            yield _part(first, texts)
            texts, first, size = [], place, len(_HEAD) + len(_TAIL)
        texts.append(text)
        size += len(text) + 1  # a comma, which the last one has not
    if texts:
        yield _part(first, texts)


def _encode(place: int, event: AnyEvent) -> bytes:
    try:
        text = encode(event)
    except ValueError as error:
        raise ValueError(f"events[{place}]: {error}") from error
    size = len(_HEAD) + len(text) + len(_TAIL)
    if size > MAX_REQUEST_BYTES:
        raise ValueError(f"events[{place}]: makes a request of {size:,} bytes; the limit is 1 MiB")
    return text


def _part(first: int, texts: Sequence[bytes]) -> Part:
    return Part(_HEAD + b",".join(texts) + _TAIL, range(first, first + len(texts)))


def part_keys(key: str, parts: int) -> list[str]:
    """Return the idempotency key of each part: the key itself if there is one, else numbered.

    Raises ValueError if the number makes a key too long.
    """
    if parts <= 1:
        return [key] * parts
    longest = MAX_IDEMPOTENCY_KEY_CHARACTERS - len(f"-{parts}")
    if len(key) > longest:
        raise ValueError(
            f"idempotency_key: must be at most {longest} characters for {parts} requests"
        )
    return [f"{key}-{number}" for number in range(1, parts + 1)]
