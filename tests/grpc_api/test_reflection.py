"""Reflection, v1 and v1alpha: services, messages and unknown symbols."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
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


def _message_names(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> set[str]:
    return {message.name for file in files for message in file.message_type}


async def test_reflection_answers_for_an_unknown_symbol(reflection: Reflection) -> None:
    response = await reflection.ask(file_containing_symbol="wepeople.Nothing")
    assert response.error_response.error_code == grpc_library.StatusCode.NOT_FOUND.value[0]
    assert await reflection.files(SERVICE)
