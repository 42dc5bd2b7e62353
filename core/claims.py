"""The idempotency keys of a group: claimed together, and settled by what came of its drafts."""

from __future__ import annotations

from collections.abc import Sequence

from core import idempotency
from core.database import Connection
from core.drafts import Draft
from core.idempotency import Scope, StoredReceipt
from core.statements import Call


class Claims:
    """What :attr:`claim` claims, for the drafts that have a key.

    Also for a draft that can write nothing, so that it waits for a first request that is in flight
    on another replica; its key is given back.
    """

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._drafts = [draft for draft in drafts if draft.claim is not None]
        wishes = [
            (draft.claim, draft.stored_receipt()) for draft in drafts if draft.claim is not None
        ]
        self._expected: dict[Scope, StoredReceipt] = {wish.scope: kept for wish, kept in wishes}
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
        for draft in self._drafts:
            assert draft.claim is not None
            if draft.claim.scope in held:
                draft.answer_as(*held[draft.claim.scope])
                del self._expected[draft.claim.scope]

    def settle(self) -> list[Call | None]:
        """Correct receipts that are not the expected ones; give back keys that nothing came of."""
        corrected: list[tuple[Scope, StoredReceipt]] = []
        unused: list[Scope] = []
        for draft in self._drafts:
            assert draft.claim is not None
            scope = draft.claim.scope
            if (expected := self._expected.get(scope)) is None:
                continue
            if not draft.positions:
                unused.append(scope)
            elif (receipt := draft.stored_receipt()) != expected:
                corrected.append((scope, receipt))
        return [idempotency.store(corrected), idempotency.release(unused)]
