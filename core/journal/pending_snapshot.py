"""A pending snapshot: a batch of one, without an index."""

from __future__ import annotations

from core.errors import IngestError
from core.journal.pending import PendingRequest
from core.journal.stored_receipt import Claim, StoredReceipt, replay_snapshot
from core.json_text import Stored
from core.models import Caller, Rejection, SnapshotReceipt, SnapshotRequest
from core.rules import fingerprint
from core.rules.snapshot import CheckedSnapshot, check_snapshot


class PendingSnapshot(PendingRequest):
    """One snapshot, judged by the rules that need no database."""

    def __init__(
        self,
        caller: Caller,
        request: SnapshotRequest,
        received_us: int,
        stored: Stored,
        checked: CheckedSnapshot | IngestError,
    ) -> None:
        self._snapshot = request.snapshot
        self.span = request.span
        claim = Claim.of(caller, "snapshots", request.idempotency_key)
        if claim is not None:
            claim.fingerprint = fingerprint.snapshot_digest(request.snapshot, stored)
        super().__init__(caller, request.request_id, received_us, 1, claim)
        if isinstance(checked, IngestError):
            rejection = Rejection(0, checked.code, checked.message)
            self.note_judged((), (), (), [rejection])
        else:
            assert request.snapshot.actor is not None
            self.checked = checked
            names, actors = [checked.worker_name], [request.snapshot.actor]
            self.note_judged([0], names, actors, ())

    @classmethod
    def check(
        cls, caller: Caller, request: SnapshotRequest, stored: Stored, received_us: int
    ) -> PendingSnapshot:
        """Judge the snapshot by the rules that need no database.

        Raises the first failure, unless the request has an idempotency key: if that is used, the
        request differs from the first one, and is told so.

        ``stored``: its metrics and metadata (:func:`core.rules.snapshot.check_texts`).
        """
        checked: CheckedSnapshot | IngestError
        try:
            checked = check_snapshot(caller, request.snapshot, stored, received_us)
        except IngestError as error:
            if request.idempotency_key is None:
                raise
            checked = IngestError(error.code, error.message)  # without the frames of a traceback
        return cls(caller, request, received_us, stored, checked)

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
