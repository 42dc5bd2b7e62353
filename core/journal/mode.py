"""The ways to write a transaction."""

from __future__ import annotations

from enum import Enum, auto


class Mode(Enum):
    """The assumptions that a transaction makes before the database has answered.

    ``OPTIMISTIC`` assumes that everything can be written. The whole transaction is sent in one go,
    and the answers are read while the database waits for the rows: two round trips. If an answer
    differs, nothing is written and the requests have to go stepwise. A transaction without events,
    or with workers to be asked for, is stepwise all the same. It takes 15 us of CPU an event, not
    19 (``bench --protocol http --batch 50 --concurrency 16``). A lone request of a few items is
    written in one round trip, by statements that fail unless everything is as assumed
    (docs/decisions/0015-one-round-trip.md). That takes a third of the time and a quarter of the
    journal's CPU off a request at rest (``bench --protocol at-rest``).

    ``STEPWISE`` assumes nothing. The rows follow from the answers: three round trips, and more for
    keys that others hold and for workers that have to be asked for.

    ``LOCKED`` is stepwise, and no other transaction can charge its accounts meanwhile.
    """

    OPTIMISTIC = auto()
    STEPWISE = auto()
    LOCKED = auto()


class UnexpectedOutcomeError(Exception):
    """Not all requests can be written, so none was: they have to go stepwise."""
