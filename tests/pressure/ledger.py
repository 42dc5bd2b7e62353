"""What was acknowledged against what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg


def stored_events(database_url: str, organization: str) -> Counter[str]:
    """How many events of each label an organization has."""
    with psycopg.connect(database_url) as db:
        rows = db.execute(
            "SELECT metadata->>'batch', count(*) FROM events WHERE organization_id = %s GROUP BY 1",
            (organization,),
        ).fetchall()
    return Counter({str(label): int(count) for label, count in rows})


def wrong_totals(stored: Mapping[str, int], told: Mapping[str, Any]) -> Iterator[str]:
    """Labels of which an acknowledged event is missing, or one is there twice.

    ``told``: a :class:`tests.pressure.pressure.Tally`. Events that got no answer may be stored.
    """
    for label, sent in told["sent"].items():
        least = told["acknowledged"].get(label, 0)
        most = least + sent - told["answered"].get(label, 0)
        if not least <= stored[label] <= most:
            yield f"{label}: {stored[label]} stored, {least} acknowledged, at most {most}"


@dataclass
class Ledger:
    """Batches that are sent again and again until they are acknowledged."""

    sent: dict[str, int] = field(default_factory=dict)  # events, by the batch's label
    acknowledged: set[str] = field(default_factory=set)

    def wrong(self, stored: Mapping[str, int]) -> Iterator[str]:
        """Batches that are lost, doubled or stored in part."""
        for label, size in self.sent.items():
            count = stored[label]
            if label in self.acknowledged and count < size:
                yield f"{label} was acknowledged, and {count} of its {size} events are stored"
            elif count not in (0, size):
                yield f"{count} events are stored of {label}, which has {size}"
        for label in set(stored) - set(self.sent):
            yield f"{label} is stored and was never sent"
