"""Notes of an answer to a batch: its rejections and its traffic, for operators and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.counters import Counters
from core.errors import IngestError
from core.journal.pending import Outcome
from core.journal.quota import Account
from core.journal.rejections import Rejections
from core.journal.traffic import Traffic
from core.models import Caller, EventBatch, Receipt, Rejection


class AnswerNotes:
    """Notes the answer to one batch: ``notes`` of its pending request (core/journal/pending.py).

    ``began_at``: monotonic seconds.
    """

    __slots__ = ("_began_at", "_caller", "_counters", "_events", "_note", "_traffic")

    def __init__(
        self,
        caller: Caller,
        batch: EventBatch,
        account: Account,
        began_at: float,
        rejections: Rejections,
        traffic: Traffic,
        counters: Counters,
    ) -> None:
        self._caller = caller
        self._events = len(batch.events)
        self._began_at = began_at
        self._note = rejections.of_batch(caller, batch, account)
        self._traffic = traffic
        self._counters = counters

    def __call__(self, answer: asyncio.Future[Outcome]) -> None:
        """Note the answer that the future has."""
        if answer.cancelled():
            return
        error = answer.exception()
        if isinstance(error, IngestError):
            self._note_refusal(error)
        elif error is None:
            receipt = answer.result()
            assert isinstance(receipt, Receipt)
            if receipt.replayed or receipt.duplicate:
                self._traffic.note_answer(self._caller, 0, 0, self._began_at)
                return
            accepted, rejected = receipt.accepted, len(receipt.rejected)
            self._traffic.note_answer(self._caller, accepted, rejected, self._began_at)
            self._note_rejected(receipt.rejected)

    def _note_refusal(self, error: IngestError) -> None:
        self._traffic.note_refusal(self._caller, error.code, self._events, self._began_at)
        self._note_rejected(error.rejected)

    def _note_rejected(self, rejected: Sequence[Rejection] | None) -> None:
        if rejected:
            self._note(rejected)
            self._counters.reject(rejected)
