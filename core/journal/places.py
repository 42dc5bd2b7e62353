"""The places of a group's batches in the sequences of their producers."""

from __future__ import annotations

from collections.abc import Sequence

from core.journal import producers
from core.journal.pending import PendingEvents, PendingRequest
from core.journal.producers import Advance, ProducerKey, Progress
from core.postgres.pipeline import Command


class Places:
    """The batches that have a place; :attr:`lock` locks their producers and asks how far they are.

    Until :meth:`take`, each batch is supposed to be its producer's next one.
    """

    def __init__(self, drafts: Sequence[PendingRequest]) -> None:
        self._advancing = [
            (producers.key(draft.caller, draft.position.producer_id), draft)
            for draft in drafts
            if isinstance(draft, PendingEvents) and draft.position is not None
        ]
        self._progress: dict[ProducerKey, Progress] = {}
        self.lock = producers.lock([producer for producer, _ in self._advancing])

    def take(self) -> bool:
        """Find which batches are their producers' next ones; the others are not to be written.

        Returns whether all of them are.
        """
        self._progress = producers.locked(self.lock)
        ahead = dict(self._progress)  # what is accepted of each is not known yet
        advancing: list[tuple[ProducerKey, PendingEvents]] = []
        for producer, draft in self._advancing:
            current = ahead.get(producer)
            if draft.take_place(current):
                assert current is not None
                ahead[producer] = current.after(Advance(1, 0, 0))
                advancing.append((producer, draft))
        all_advance = len(advancing) == len(self._advancing)
        self._advancing = advancing
        return all_advance

    def advance(self) -> Command | None:
        """Add what is accepted of the batches, and what is rejected, to their producers."""
        return producers.advance(self._added())

    def reached(self) -> dict[ProducerKey, Progress]:
        """How far the producers are after that."""
        return {
            producer: self._progress[producer].after(advance)
            for producer, advance in self._added().items()
        }

    def _added(self) -> dict[ProducerKey, Advance]:
        added: dict[ProducerKey, Advance] = {}
        for producer, draft in self._advancing:
            batches, accepted, rejected = added.get(producer, (0, 0, 0))
            added[producer] = Advance(
                batches + 1, accepted + len(draft.positions), rejected + len(draft.rejected)
            )
        return added
