"""Events of a batch as columns: for each member, the list of its values.

To read events one by one, Python makes an object for each message and each member, which is most of
the cost of converting them. Here protobuf's decoder makes the lists. It reads the bytes of a batch
as a message in which ``events`` is not repeated, but all members of an event are: a decoder merges
all that it finds of a field that is not repeated, and appends what it finds of one that is
(https://protobuf.dev/programming-guides/encoding/#last-one-wins).

These messages are derived from the contract's own descriptors, so they cannot disagree with it.
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
# By member: the messages of which all that are found become one.
_MERGED: Final[dict[str, type[Message]]] = {"events": pb.IngestEvent, "timestamp": Timestamp}


def _derive(contract: type[Message], *members: str) -> DescriptorProto:
    """The message that is read in place of one of the contract, with these members or with all.

    Members are repeated, but for those in ``_MERGED``; of the others messages stay encoded.
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
    """One event whose members are the columns of the batch, and the batch's size in bytes.

    An event that does not have a member is missing from its column. Actors and Structs are in
    theirs as they are encoded.
    """
    # Without unknown fields: packed, one could be taken for several values of a column. And encoded
    # anew, for clients may send a member of one event twice, or in pieces.
    batch.DiscardUnknownFields()
    data = batch.SerializeToString(deterministic=True)
    return _decoders[type(batch)](data).events, len(data)
