"""Figures of a producer, for its program."""

from __future__ import annotations

from dataclasses import dataclass

from wepeople_ingest_client.stream.send_buffer import SendBuffer
from wepeople_ingest_client.stream.sender import Sender


@dataclass(frozen=True, slots=True)
class ProducerMetrics:
    """A producer at one moment. Counts are of events unless the name says otherwise."""

    sent: int  # handed over
    acked: int  # known to be judged, and stored if accepted: the sum of the next three
    accepted: int
    rejected: int
    duplicate: int  # committed, but the ack was lost
    duplicate_rejected: int  # duplicates that were rejected; which ones is not known
    buffered: int  # in memory: not acked yet
    in_flight_batches: int
    reconnects: int  # streams opened after the first
    quota_left: int | None  # of the month, by the latest ack; None if there is no quota
    last_sequence: int  # of the latest batch known to be committed


def current(buffer: SendBuffer, sender: Sender) -> ProducerMetrics:
    """The figures of this moment."""
    return ProducerMetrics(
        sent=buffer.added,
        acked=sender.accepted + sender.rejected + sender.duplicate,
        accepted=sender.accepted,
        rejected=sender.rejected,
        duplicate=sender.duplicate,
        duplicate_rejected=sender.duplicate_rejected,
        buffered=buffer.buffered_events,
        in_flight_batches=buffer.in_flight,
        reconnects=max(0, sender.streams_opened - 1),
        quota_left=sender.quota_left,
        last_sequence=buffer.last_acked,
    )
