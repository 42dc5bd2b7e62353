"""The events of the load, as messages of a stream."""

from __future__ import annotations

from grpc_api.pb import ingest_pb2 as pb
from service.bench.sample import StreamBatches


def test_prepared_batches_are_what_the_contract_says() -> None:
    batches = StreamBatches(3)
    for sequence in (1, 127, 128, 70_000):
        request = pb.StreamEventsRequest.FromString(batches.message(sequence))
        assert request.batch.sequence == sequence
        assert [event.actor.external_id for event in request.batch.events] == [
            f"crm-user-{number}" for number in range(3)
        ]
        assert request.SerializeToString() == batches.message(sequence)
