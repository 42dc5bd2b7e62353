"""Events for reading: the same messages, but for the actor and the Struct, which stay encoded.

Python makes an object each time a submessage is looked at, and most of converting an event would be
that. Encoded, an actor is the key of a cache, for the same people come again and again; and what an
event has is told by a default value that nothing encodes to, instead of one question a field.

The messages here are derived from the contract's own descriptors, so they cannot disagree with it.
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
from google.protobuf.timestamp_pb2 import DESCRIPTOR as TIMESTAMP_FILE

from grpc_api.pb import ingest_pb2 as pb

# No message begins with this byte, and no JSON text.
ABSENT: Final = b"\xff"
ABSENT_INTEGER: Final = -(2**63)

_PACKAGE: Final = "flat"
_DEFAULTS: Final = {
    "actor": r"\377",
    "metadata": r"\377",
    "metadata_json": r"\377",
    "duration_seconds": str(ABSENT_INTEGER),
}


def _derive(contract: type[Message], *members: str) -> DescriptorProto:
    """What a message of the contract is in the flat package, with these members or with all."""
    flat = DescriptorProto()
    contract.DESCRIPTOR.CopyToProto(flat)
    kept = [field for field in flat.field if not members or field.name in members]
    for field in kept:
        field.ClearField("oneof_index")
        field.ClearField("proto3_optional")
        if field.name in ("actor", "metadata"):
            field.type = FieldDescriptorProto.TYPE_BYTES
            field.ClearField("type_name")
        elif field.name == "events":
            field.type_name = f".{_PACKAGE}.{pb.IngestEvent.DESCRIPTOR.name}"
        if field.name in _DEFAULTS:
            field.default_value = _DEFAULTS[field.name]
    return DescriptorProto(name=flat.name, field=kept)


_BATCHES: Final = (pb.StreamBatch, pb.IngestEventsRequest)
_file: Final = FileDescriptorProto(
    name="flat.proto",
    package=_PACKAGE,
    syntax="proto2",  # which has defaults
    dependency=[TIMESTAMP_FILE.name],
    message_type=[_derive(pb.IngestEvent), *(_derive(batch, "events") for batch in _BATCHES)],
)
_pool: Final = DescriptorPool()
_pool.AddSerializedFile(TIMESTAMP_FILE.serialized_pb)
_pool.AddSerializedFile(_file.SerializeToString())
_decoders: Final[dict[type[Message], Callable[[bytes], Any]]] = {
    batch: GetMessageClass(
        _pool.FindMessageTypeByName(f"{_PACKAGE}.{batch.DESCRIPTOR.name}")
    ).FromString
    for batch in _BATCHES
}


def flatten(batch: pb.StreamBatch | pb.IngestEventsRequest) -> tuple[Sequence[Any], int]:
    """The events of a batch, and the size of the batch in bytes.

    Encoded anew: a submessage that a client sent in pieces is one then, as protobuf wants it.
    """
    data = batch.SerializeToString(deterministic=True)
    return _decoders[type(batch)](data).events, len(data)
