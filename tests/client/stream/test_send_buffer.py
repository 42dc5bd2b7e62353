"""Batches in the send buffer: sizes, order and resuming."""

from __future__ import annotations

import pytest

from wepeople_ingest_client.pb import ingest_pb2 as pb
from wepeople_ingest_client.stream.send_buffer import SendBuffer, SequenceLostError


def test_a_full_batch_stays_within_a_message() -> None:
    buffer = SendBuffer(500)
    one = pb.IngestEvent(metadata_json=b"x" * 2_200)
    buffer.start(2**62)
    while buffer.fits(one.ByteSize() + 4):
        buffer.add(one, one.ByteSize() + 4)
    buffer.seal()
    batch = buffer.next_to_send(1)
    assert batch is not None
    assert batch.count < 500
    assert 1_048_576 - 4_096 < len(batch.message) <= 1_048_576


def _buffer(batches: int) -> SendBuffer:
    """A buffer of sealed batches with one event each, numbered on from 5."""
    buffer = SendBuffer(500)
    buffer.start(5)
    event = pb.IngestEvent(event_type="deal.won")
    for _ in range(batches):
        buffer.add(event, event.ByteSize() + 4)
        buffer.seal()
    return buffer


def test_a_new_stream_gets_the_same_bytes_of_what_is_not_committed() -> None:
    buffer = _buffer(3)
    sent = [buffer.next_to_send(3) for _ in range(3)]
    assert buffer.next_to_send(3) is None
    assert buffer.acknowledge(6) == sent[0]
    assert buffer.resume(7) == [sent[1]]
    assert buffer.next_to_send(3) == sent[2]
    assert buffer.acknowledge(8) == sent[2]
    assert (buffer.buffered_events, buffer.buffered_bytes, buffer.in_flight) == (0, 0, 0)


@pytest.mark.parametrize("sequence", [5, 7, 8])
def test_an_ack_of_another_batch_than_the_oldest_is_an_error(sequence: int) -> None:
    buffer = _buffer(2)
    buffer.next_to_send(1)
    with pytest.raises(SequenceLostError):
        buffer.acknowledge(sequence)


@pytest.mark.parametrize("last_sequence", [4, 8])
def test_a_last_sequence_that_cannot_be_is_an_error(last_sequence: int) -> None:
    with pytest.raises(SequenceLostError):
        _buffer(2).resume(last_sequence)
