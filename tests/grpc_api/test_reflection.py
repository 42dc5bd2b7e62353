"""Reflection, v1 and v1alpha: every symbol there is, and unknown ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import grpc as grpc_library
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

from grpc_api.pb import ingest_pb2 as pb
from tests.support.grpc_driver import GrpcDriver

pytestmark = pytest.mark.anyio
SERVICE = "wepeople.ingest.v1.IngestService"


class Reflection:
    """One conversation with a reflection service."""

    def __init__(self, channel: grpc_library.aio.Channel, version: str) -> None:
        self._call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()

    async def ask(self, **question: Any) -> reflection_pb2.ServerReflectionResponse:
        await self._call.write(reflection_pb2.ServerReflectionRequest(**question))
        response = await self._call.read()
        assert isinstance(response, reflection_pb2.ServerReflectionResponse)
        return response

    async def files(self, symbol: str) -> list[descriptor_pb2.FileDescriptorProto]:
        """The files that describe a symbol."""
        response = await self.ask(file_containing_symbol=symbol)
        assert response.WhichOneof("message_response") == "file_descriptor_response", response
        return [
            descriptor_pb2.FileDescriptorProto.FromString(data)
            for data in response.file_descriptor_response.file_descriptor_proto
        ]

    async def close(self) -> None:
        self._call.cancel()
        await self._call.code()


@pytest.fixture(params=["v1", "v1alpha"])
async def reflection(request: pytest.FixtureRequest, grpc: GrpcDriver) -> AsyncIterator[Reflection]:
    conversation = Reflection(grpc.channel, request.param)
    yield conversation
    await conversation.close()


async def test_reflection_lists_the_services(reflection: Reflection) -> None:
    response = await reflection.ask(list_services="")
    assert {one.name for one in response.list_services_response.service} == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_reflection_describes_the_service_and_every_message(reflection: Reflection) -> None:
    described = await reflection.files(SERVICE)
    [service] = [service for file in described for service in file.service]
    assert {method.name for method in service.method} == {
        "Ping",
        "IngestEvents",
        "IngestSnapshot",
        "StreamEvents",
    }
    for name in pb.DESCRIPTOR.message_types_by_name:
        files = await reflection.files(f"wepeople.ingest.v1.{name}")
        assert name in _message_names(files)
    for name in (
        "google.protobuf.Struct",
        "google.protobuf.Timestamp",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ):
        assert await reflection.files(name)


async def test_reflection_tells_the_comments(reflection: Reflection) -> None:
    by_symbol = (await reflection.files(SERVICE))[0]
    answer = await reflection.ask(file_by_filename=by_symbol.name)
    [data, *_] = answer.file_descriptor_response.file_descriptor_proto
    assert descriptor_pb2.FileDescriptorProto.FromString(data) == by_symbol
    said = {tuple(one.path): one.leading_comments for one in by_symbol.source_code_info.location}
    for message, described in enumerate(by_symbol.message_type):
        assert said[4, message]
        assert all(said[4, message, 2, field] for field in range(len(described.field)))
    assert said[6, 0, 2, 0] == " Validates a key and tells the app it belongs to.\n"


def _message_names(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> set[str]:
    return {message.name for file in files for message in file.message_type}


def _symbols(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    """The full name of everything that a file defines."""
    for service in file.service:
        yield (name := f"{file.package}.{service.name}")
        yield from (f"{name}.{method.name}" for method in service.method)
    yield from _enum_symbols(file.package, file.enum_type)
    yield from (f"{file.package}.{extension.name}" for extension in file.extension)
    for message in file.message_type:
        yield from _message_symbols(file.package, message)


def _message_symbols(scope: str, message: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    yield (name := f"{scope}.{message.name}")
    yield from (f"{name}.{field.name}" for field in (*message.field, *message.extension))
    yield from (f"{name}.{oneof.name}" for oneof in message.oneof_decl)
    yield from _enum_symbols(name, message.enum_type)
    for nested in message.nested_type:
        yield from _message_symbols(name, nested)


def _enum_symbols(scope: str, enums: Iterable[descriptor_pb2.EnumDescriptorProto]) -> Iterator[str]:
    for enum in enums:
        yield f"{scope}.{enum.name}"
        for value in enum.value:
            yield from (f"{scope}.{value.name}", f"{scope}.{enum.name}.{value.name}")


async def test_reflection_finds_the_file_of_every_symbol(reflection: Reflection) -> None:
    services = (await reflection.ask(list_services="")).list_services_response.service
    files = {file.name: file for one in services for file in await reflection.files(one.name)}
    symbols = {symbol: file.name for file in files.values() for symbol in _symbols(file)}
    assert {
        f"{SERVICE}.IngestEvents",  # a method
        "wepeople.ingest.v1.IngestEvent.metadata",  # a field
        "wepeople.ingest.v1.StreamEventsRequest.message",  # a oneof
        "google.protobuf.Struct.FieldsEntry",  # a nested message
        "google.protobuf.NULL_VALUE",  # an enum's value
        "grpc.health.v1.HealthCheckResponse.SERVING",  # that of a nested enum
        "grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
    } <= symbols.keys()
    assert {symbol: (await reflection.files(symbol))[0].name for symbol in symbols} == symbols


@pytest.mark.parametrize(
    "symbol",
    [
        "",
        ".",
        "wepeople",
        "wepeople.ingest.v1",
        "wepeople.Nothing",
        f"{SERVICE}.Nothing",
        f"{SERVICE}.Ping.Nothing",
        "wepeople.ingest.v1.IngestEvent.nothing",
        "google.protobuf.NullValue.NOTHING",
    ],
)
async def test_reflection_answers_for_an_unknown_symbol(
    reflection: Reflection, symbol: str
) -> None:
    response = await reflection.ask(file_containing_symbol=symbol)
    assert response.error_response.error_code == grpc_library.StatusCode.NOT_FOUND.value[0]
    assert await reflection.files(SERVICE)
