"""A pending snapshot: a batch of one, without an index."""

from __future__ import annotations

from core.journal.pending import PendingRequest
from core.journal.stored_receipt import Claim, Scope, StoredReceipt, replay_snapshot
from core.json_text import Stored
from core.models import Actor, Caller, SnapshotReceipt, SnapshotRequest
from core.rules import fingerprint
from core.rules.snapshot import CheckedSnapshot, check_snapshot


class PendingSnapshot(PendingRequest):
    """One snapshot, judged by the rules that need no database."""

    def __init__(
        self,
        caller: Caller,
        request: SnapshotRequest,
        actor: Actor,
        received_us: int,
        stored: Stored,
        checked: CheckedSnapshot,
    ) -> None:
        self.checked = checked
        self._snapshot = request.snapshot
        claim = None
        if request.idempotency_key is not None:
            scope = Scope(
                caller.organization_id, caller.key_id, "snapshots", request.idempotency_key
            )
            claim = Claim(scope, fingerprint.snapshot_digest(request.snapshot, stored))
        super().__init__(
            caller,
            request.request_id,
            received_us,
            [0],
            [checked.worker_name],
            [actor],
            (),
            claim,
        )

    @classmethod
    def check(
        cls, caller: Caller, request: SnapshotRequest, stored: Stored, received_us: int
    ) -> PendingSnapshot:
        """Judge the snapshot by the rules that need no database; raises the first failure.

        ``stored``: its metrics and metadata (:func:`core.rules.snapshot.check_texts`).
        """
        checked = check_snapshot(caller, request.snapshot, stored, received_us)
        assert request.snapshot.actor is not None
        return cls(caller, request, request.snapshot.actor, received_us, stored, checked)

    def item_path(self, position: int) -> tuple[int, str]:
        return position, ""

    def stored_receipt(self) -> StoredReceipt:
        worker = self.workers[0] if self.workers else None
        return StoredReceipt(self.request_id, self.received_us, (), worker)

    def receipt(self) -> SnapshotReceipt:
        worker = self.workers[0]
        assert worker is not None
        return SnapshotReceipt(self.request_id, self.checked.snapshot_type, worker, self.quota_left)

    def replay_of(self, stored: StoredReceipt) -> SnapshotReceipt:
        return replay_snapshot(stored, self._snapshot)
