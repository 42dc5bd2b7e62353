"""Events of a batch as columns: for each member, the list of its values.

To read events one by one, Python makes an object for each message and each member, which is most of
the cost of converting them. Here protobuf's decoder makes the lists. It reads the bytes of a batch
as a message in which ``events`` is not repeated, but all members of an event are: a decoder merges
all that it finds of a field that is not repeated, and appends what it finds of one that is
(https://protobuf.dev/programming-guides/encoding/#last-one-wins).

These messages are derived from the contract's own descriptors, so they cannot disagree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
_MERGED: Final = "events"  # the member of which all messages that are found become one


def _derive(contract: type[Message], *members: str) -> DescriptorProto:
    """The message that is read in place of one of the contract, with these members or with all.

    Members are repeated, but for ``events``; messages in them stay encoded.
    """
    derived = DescriptorProto()
    contract.DESCRIPTOR.CopyToProto(derived)
    kept = [field for field in derived.field if not members or field.name in members]
    for field in kept:
        field.ClearField("oneof_index")
        field.ClearField("proto3_optional")
        if field.name == _MERGED:
            field.label = FieldDescriptorProto.LABEL_OPTIONAL
            field.type_name = f".{_PACKAGE}.{pb.IngestEvent.DESCRIPTOR.name}"
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
            _derive(pb.IngestEvent),
            _derive(Timestamp),
            *(_derive(batch, _MERGED) for batch in _BATCHES),
        ],
    ).SerializeToString()
)


def _decoder(contract: type[Message]) -> Callable[[bytes], Any]:
    name = f"{_PACKAGE}.{contract.DESCRIPTOR.name}"
    return GetMessageClass(_pool.FindMessageTypeByName(name)).FromString


_batch_decoders: Final = {batch: _decoder(batch) for batch in _BATCHES}
_decode_timestamps: Final = _decoder(Timestamp)
# Seconds whose encoding has five bytes: the years 1978 to 3058.
_USUAL_SECONDS: Final = range(1 << 28, 1 << 35)
_WHOLE_BYTES: Final = 6  # an encoded Timestamp of such seconds, and no nanos


def merge(batch: Batch) -> tuple[Any, int]:
    """One event whose members are the columns of the batch, and the batch's size in bytes.

    An event that does not have a member is missing from its column. Actors, timestamps and Structs
    are in theirs as they are encoded.
    """
    # Without unknown fields: packed, one could be taken for several values of a column. And encoded
    # anew, for clients may send a member of one event twice, or in pieces.
    batch.DiscardUnknownFields()
    data = batch.SerializeToString(deterministic=True)
    return _batch_decoders[type(batch)](data).events, len(data)


def timestamps(encoded: Sequence[bytes]) -> tuple[Sequence[int], Sequence[int]] | None:
    """The seconds and the nanos of the timestamps of a column, merged in the same way.

    None if they have to be read one by one: of what is zero nothing is encoded.
    """
    merged = _decode_timestamps(b"".join(encoded))
    seconds, nanos = merged.seconds[:], merged.nanos[:]
    if len(seconds) < len(encoded):
        return None
    if len(nanos) < len(encoded):
        if min(seconds) not in _USUAL_SECONDS or max(seconds) not in _USUAL_SECONDS:
            return None
        following = iter(nanos)
        nanos = [0 if len(one) == _WHOLE_BYTES else next(following) for one in encoded]
    return seconds, nanos
