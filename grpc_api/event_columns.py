"""Events of a batch, read member by member.

Python makes an object each time it looks at a message, and most of converting an event would be
that. But protobuf merges what it finds of a field that is not repeated, and appends what it finds
of one that is. So where a batch has one event of repeated members in place of repeated events, the
decoder itself collects each member of all events in a list
(https://protobuf.dev/programming-guides/encoding/#last-one-wins).

The messages here are derived from the contract's own descriptors, so they cannot disagree with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from grpc_api.pb import ingest_pb2 as pb

Batch = pb.StreamBatch | pb.IngestEventsRequest

_PACKAGE: Final = "columns"
_BATCHES: Final = (pb.StreamBatch, pb.IngestEventsRequest)
_MERGED: Final[dict[str, type[Message]]] = {"events": pb.IngestEvent, "timestamp": Timestamp}


def _derive(contract: type[Message], *members: str) -> DescriptorProto:
    """What a message of the contract is here, with these members or with all.

    Messages that are not merged stay encoded.
    """
    derived = DescriptorProto()
    contract.DESCRIPTOR.CopyToProto(derived)
    kept = [field for field in derived.field if not members or field.name in members]
    for field in kept:
        field.ClearField("oneof_index")
        field.ClearField("proto3_optional")
        if field.name in _MERGED:
            field.label = FieldDescriptorProto.LABEL_OPTIONAL
            field.type_name = f".{_PACKAGE}.{_MERGED[field.name].DESCRIPTOR.name}"
        else:
            field.label = FieldDescriptorProto.LABEL_REPEATED
            if field.type == FieldDescriptorProto.TYPE_MESSAGE:
                field.type = FieldDescriptorProto.TYPE_BYTES
                field.ClearField("type_name")
    return DescriptorProto(name=derived.name, field=kept)


_pool: Final = DescriptorPool()
_pool.AddSerializedFile(
    FileDescriptorProto(
        name="columns.proto",
        package=_PACKAGE,
        syntax="proto3",
        message_type=[
            *(_derive(message) for message in _MERGED.values()),
            *(_derive(batch, "events") for batch in _BATCHES),
        ],
    ).SerializeToString()
)
_decoders: Final[dict[type[Message], Callable[[bytes], Any]]] = {
    batch: GetMessageClass(
        _pool.FindMessageTypeByName(f"{_PACKAGE}.{batch.DESCRIPTOR.name}")
    ).FromString
    for batch in _BATCHES
}


def merge(batch: Batch) -> tuple[Any, int]:
    """One event that has the members of all events of a batch, and the batch's size in bytes.

    Encoded anew before, for then each event has a member once at most, and in one piece. Without
    what is unknown: of numbers, that may be what a decoder takes for several in one piece.
    """
    batch.DiscardUnknownFields()
    data = batch.SerializeToString(deterministic=True)
    return _decoders[type(batch)](data).events, len(data)
