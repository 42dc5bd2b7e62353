"""Lists a page at a time, in an order that an index has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
K = TypeVar("K")


class Page(NamedTuple, Generic[T, K]):
    """A page of a list. ``after``: the key behind which the next one begins; None: the last."""

    items: Sequence[T]
    after: K | None


def page_of(found: Sequence[T], limit: int, key: Callable[[T], K]) -> Page[T, K]:
    """The page of ``limit`` rows, of which one more was asked for, to know if there are more."""
    if len(found) <= limit:
        return Page(found, None)
    return Page(found[:limit], key(found[limit - 1]))
