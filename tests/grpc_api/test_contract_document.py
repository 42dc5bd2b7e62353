"""The contract as the reference has it: nothing of the .proto or of the statuses is left out."""

from __future__ import annotations

from core.error_codes import ErrorCode, StreamReason
from grpc_api.errors import GRPC_STATUS, STREAM_STATUS
from grpc_api.pb import ingest_pb2 as pb
from http_api.docs.grpc_contract import contract


def test_the_document_has_every_method_message_and_field_with_its_comment() -> None:
    (service,) = pb.DESCRIPTOR.services_by_name.values()
    assert contract().service == service.full_name
    assert [one.name for one in contract().methods] == list(service.methods_by_name)
    fields = {one.name: [field.name for field in one.fields] for one in contract().messages}
    assert fields == {
        name: [field.name for field in message.fields]
        for name, message in pb.DESCRIPTOR.message_types_by_name.items()
    }
    assert all(method.comment for method in contract().methods)
    assert all(message.comment for message in contract().messages)
    assert all(field.comment for message in contract().messages for field in message.fields)


def test_the_document_has_the_status_of_every_code_and_stream_reason() -> None:
    statuses = contract().statuses
    for code in ErrorCode:
        assert statuses[code.value][0] == GRPC_STATUS[code].name
    assert statuses[ErrorCode.INTERNAL_ERROR.value][1:] == ["UNAVAILABLE"]
    for reason in StreamReason:
        assert statuses[reason.value] == [STREAM_STATUS[reason].name]
