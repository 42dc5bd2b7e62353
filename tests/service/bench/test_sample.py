"""The events of the load, as messages of a stream and of calls."""

from __future__ import annotations

from itertools import islice

from grpc_api.pb import ingest_pb2 as pb
from service.bench.sample import StreamBatches, unary_requests


def test_prepared_batches_are_what_the_contract_says() -> None:
    batches = StreamBatches(3)
    for sequence in (1, 127, 128, 70_000):
        request = pb.StreamEventsRequest.FromString(batches.message(sequence))
        assert request.batch.sequence == sequence
        assert [event.actor.external_id for event in request.batch.events] == [
            f"crm-user-{number}" for number in range(3)
        ]
        assert request.SerializeToString() == batches.message(sequence)


def test_prepared_calls_differ_in_their_keys_alone() -> None:
    encoded = islice(unary_requests(3, idempotency_keys=True), 3)
    requests = [pb.IngestEventsRequest.FromString(one) for one in encoded]
    assert len({request.idempotency_key for request in requests}) == 3
    for request in requests:
        request.ClearField("idempotency_key")
    plain = next(unary_requests(3, idempotency_keys=False))
    assert {request.SerializeToString() for request in requests} == {plain}
    assert len(requests[0].events) == 3
