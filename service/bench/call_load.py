"""gRPC load of any server: unary calls whose message is JSON, by what describes the method."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, cast

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from grpc_reflection.v1alpha import reflection_pb2

from service.bench.http_load import CONNECT_SECONDS, LoadError
from service.bench.load import CallLoad
from service.bench.recorder import Recorder
from service.bench.stream_load import open_channel
from service.bench.success import Success
from service.bench.templates import ID, Template, unique_ids
from service.bench.unary_load import Calls, make_calls

# Both versions have the same messages.
REFLECTION: Final = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
)

# The library calls it an internal error if the call has ended before the question was written.
_UNKNOWN_METHOD: Final = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)


async def run_calls(load: CallLoad, recorder: Recorder) -> None:
    """Make the load until the recorder's end.

    Raises LoadError if nothing describes the method or the message is not its request, and else as
    :func:`service.bench.unary_load.make_calls`.
    """
    service_name, _, method_name = load.method.rpartition("/")
    files = (
        await _reflected(load, service_name)
        if load.descriptors is None
        else _given(load.descriptors)
    )
    pool = descriptor_pool.DescriptorPool()
    try:
        for file in files:
            pool.Add(file)
    except TypeError as error:
        raise LoadError(f"the descriptors are not whole: {error}") from None
    try:
        methods = pool.FindServiceByName(service_name).methods_by_name
        method: MethodDescriptor = methods[method_name]
    except KeyError:
        raise LoadError(f"nothing describes {load.method}") from None
    if method.client_streaming or method.server_streaming:
        raise LoadError(f"{load.method} is a stream, and calls are made of unary methods alone")
    answers = cast(Any, message_factory.GetMessageClass(method.output_type))
    await make_calls(
        Calls(
            load.server,
            load.tls,
            load.method,
            load.metadata,
            _messages(load.message, method, pool),
            answers.FromString,
            lambda answer: _problem(load.success, answer),
            load.batch,
            load.calls,
            load.rate,
            load.skip_missed,
        ),
        recorder,
    )


def _messages(
    text: str, method: MethodDescriptor, pool: descriptor_pool.DescriptorPool
) -> Iterator[bytes]:
    """The messages of a JSON text, encoded once: they differ in their ids alone.

    A string is encoded as its bytes, so that an id can be exchanged for another of its length.
    """
    placeholder = str(uuid.uuid4())
    message = message_factory.GetMessageClass(method.input_type)()
    try:
        json_format.Parse(text.replace(ID, placeholder), message, descriptor_pool=pool)
    except json_format.ParseError as error:
        raise LoadError(f"the message is no {method.input_type.full_name}: {error}") from None
    pieces = message.SerializeToString().split(placeholder.encode())
    if len(pieces) != text.count(ID) + 1:
        raise LoadError(f"{ID} in a message has to be in fields that are strings")
    template, ids = Template(*pieces), unique_ids()
    return (template.render(ids) for _ in itertools.count())


def _problem(success: Success, answer: Message) -> str | None:
    if success.path is None:
        return None
    return success.problem(
        json_format.MessageToDict(answer, always_print_fields_with_no_presence=True)
    )


def _given(descriptors: bytes) -> list[descriptor_pb2.FileDescriptorProto]:
    """The files of a FileDescriptorSet, in which those that others need come first."""
    try:
        return list(descriptor_pb2.FileDescriptorSet.FromString(descriptors).file)
    except DecodeError:
        raise LoadError("the descriptors are no FileDescriptorSet") from None


async def _reflected(load: CallLoad, symbol: str) -> list[descriptor_pb2.FileDescriptorProto]:
    """The files that describe a symbol, as the server tells them."""
    async with open_channel(load.server, tls=load.tls) as channel:
        for path in REFLECTION:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await _ask(channel, path, symbol)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _UNKNOWN_METHOD:
                    raise
    raise LoadError("the server has no reflection: name a descriptor set")


async def _ask(
    channel: grpc.aio.Channel, path: str, symbol: str
) -> list[descriptor_pb2.FileDescriptorProto]:
    call: Any = channel.stream_stream(
        path,
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )()
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    async def ask(question: reflection_pb2.ServerReflectionRequest) -> None:
        await call.write(question)
        answer = await call.read()
        if answer is grpc.aio.EOF or answer.HasField("error_response"):
            raise LoadError(f"the server's reflection does not know {symbol}")
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(encoded)
            for encoded in answer.file_descriptor_response.file_descriptor_proto
        ]
        found.update({file.name: file for file in files})

    await ask(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
    while missing := [name for name in _needed(found) if name not in found]:
        await ask(reflection_pb2.ServerReflectionRequest(file_by_filename=missing[0]))
        if missing[0] not in found:
            raise LoadError(f"the server's reflection does not know {missing[0]}")
    return ordered(found)


def _needed(files: Mapping[str, descriptor_pb2.FileDescriptorProto]) -> Iterator[str]:
    return itertools.chain.from_iterable(file.dependency for file in files.values())


def ordered(
    files: Mapping[str, descriptor_pb2.FileDescriptorProto],
) -> list[descriptor_pb2.FileDescriptorProto]:
    """The files, each after those that it needs; LoadError if two need each other."""
    graph = {name: list(file.dependency) for name, file in files.items()}
    try:
        return [files[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError:
        raise LoadError("the server's reflection has files that need each other") from None
