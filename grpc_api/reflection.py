"""Server reflection, v1 and v1alpha: grpcurl and the like need no .proto file.

The library has only v1alpha. v1 has the same messages in another package, so one servicer answers
both. Its descriptor is derived from that of v1alpha, for clients that ask about reflection itself.
Every name of a file is a symbol, methods included. The comments of the contract are told, too.
Anybody may ask, so conversations are bounded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

from grpc_api.accepting import Context, forgetting_aborts
from grpc_api.open_calls import OpenCalls, read_messages
from grpc_api.pb.comments import COMMENTS

MAX_CONVERSATIONS: Final = 32
CONVERSATION_SECONDS: Final = 60.0

_ALPHA: Final = "grpc.reflection.v1alpha"
_V1: Final = "grpc.reflection.v1"


def enable_reflection(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Register reflection on the server; clients can list and describe these services and it."""
    described = (*services, f"{_ALPHA}.ServerReflection", f"{_V1}.ServerReflection")
    servicer = reflection.aio.ReflectionServicer(described, pool=_EverySymbol(_with_v1()))
    conversations = OpenCalls(MAX_CONVERSATIONS, CONVERSATION_SECONDS)

    async def answer(_: object, context: Context) -> None:
        async with conversations.place(context):
            responses: Any = servicer.ServerReflectionInfo(read_messages(context), context)
            async for response in responses:
                await context.write(response)

    method = grpc.stream_stream_rpc_method_handler(
        forgetting_aborts(answer),
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(
                f"{package}.ServerReflection", {"ServerReflectionInfo": method}
            )
            for package in (_ALPHA, _V1)
        )
    )


class _Commented:
    """A descriptor of a file whose copies have its comments; those of a pool have none."""

    def __init__(self, file: FileDescriptor) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def CopyToProto(self, proto: descriptor_pb2.FileDescriptorProto) -> None:  # noqa: N802
        """Copy the description of the file."""
        self._file.CopyToProto(proto)
        if comments := COMMENTS.get(self._file.name):
            proto.source_code_info.ParseFromString(comments)


class _EverySymbol:
    """A descriptor pool that finds the file of a method and of an enum's value, too.

    The value of an enum is a symbol beside its enum; it is found by the name inside it as well.
    The files have their comments.
    """

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileByName(self, name: str) -> _Commented:  # noqa: N802 - the library's
        """The file of a name; raises KeyError if there is none."""
        return _Commented(self._pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> _Commented:  # noqa: N802 - the library's
        """The file that defines a symbol; raises KeyError if there is none."""
        return _Commented(self._file_of(symbol))

    def _file_of(self, symbol: str) -> FileDescriptor:
        with contextlib.suppress(KeyError):
            return self._pool.FindFileContainingSymbol(symbol)
        parent, _, name = symbol.rpartition(".")
        with contextlib.suppress(KeyError):
            service = self._pool.FindServiceByName(parent)
            return service.methods_by_name[name].containing_service.file
        enum = self._pool.FindEnumTypeByName(parent)
        return enum.values_by_name[name].type.file


def _with_v1() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.Default()
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", _V1
    for message in file.message_type:
        for field in filter(lambda field: field.type_name, message.field):
            field.type_name = field.type_name.replace(_ALPHA, _V1)
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(_ALPHA, _V1)
        method.output_type = method.output_type.replace(_ALPHA, _V1)
    pool.Add(file)
    return pool
