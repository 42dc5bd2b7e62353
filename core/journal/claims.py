"""The idempotency keys of a group: claimed together, and settled by what came of its drafts."""

from __future__ import annotations

from collections.abc import Sequence

from core.journal import idempotency
from core.journal.idempotency import Scope, StoredReceipt
from core.journal.pending import PendingRequest
from core.postgres.pipeline import Command
from core.postgres.sessions import Connection


class Claims:
    """The drafts that have a key; :attr:`claim` claims all the keys.

    Also that of a draft that can write nothing, so that it waits for a first request that is in
    flight on another replica; it is given back.
    """

    def __init__(self, drafts: Sequence[PendingRequest]) -> None:
        self._drafts = [(draft.claim, draft) for draft in drafts if draft.claim is not None]
        wishes = [(claim, draft.stored_receipt()) for claim, draft in self._drafts]
        # Of the keys that are not known to be held by others.
        self._expected: dict[Scope, StoredReceipt] = {claim.scope: kept for claim, kept in wishes}
        self.claim = idempotency.claim(wishes)

    @property
    def are_answered(self) -> bool:
        """Whether it is known which keys the group has, and none is waited for."""
        return self.claim is None or self.claim.done

    @property
    def are_won(self) -> bool:
        """Whether no key is held by others."""
        return self.claim is None or self.claim.count == len(self._expected)

    async def answer_others(self, db: Connection) -> None:
        """Answer the drafts whose keys others hold."""
        held = await idempotency.held(db, list(self._expected))
        for claim, draft in self._drafts:
            if claim.scope in held:
                draft.answer_as(*held[claim.scope])
                del self._expected[claim.scope]

    def settle(self) -> list[Command | None]:
        """Correct receipts that are not the expected ones; give back keys that nothing came of."""
        corrected: list[tuple[Scope, StoredReceipt]] = []
        unused: list[Scope] = []
        for claim, draft in self._drafts:
            if (expected := self._expected.get(claim.scope)) is None:
                continue
            if not draft.positions:
                unused.append(claim.scope)
            elif (receipt := draft.stored_receipt()) != expected:
                corrected.append((claim.scope, receipt))
        return [idempotency.store(corrected), idempotency.release(unused)]
