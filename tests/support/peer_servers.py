"""Foreign services that take events: FastAPI over HTTP and grpc.aio, and count what arrives."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import fastapi
import grpc
import uvicorn
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from grpc_reflection.v1alpha import reflection

GRPC_SERVICE: Final = "peer.v1.Store"


@dataclass
class Arrived:
    """The ids of what has arrived, the headers or metadata of the last request, and refusals.

    ``refuses_after``: the number of requests after which each is refused.
    """

    port: int = 0
    requests: int = 0
    ids: list[str] = field(default_factory=list)
    request_ids: set[str] = field(default_factory=set)
    times: set[str] = field(default_factory=set)
    refuses_after: int | None = None

    def refuses(self) -> bool:
        """Count a request, and tell whether it is to be refused."""
        self.requests += 1
        return self.refuses_after is not None and self.requests > self.refuses_after


@contextlib.asynccontextmanager
async def http_peer() -> AsyncIterator[Arrived]:
    """A FastAPI application that answers POST /bulk with what it has counted, in chunks."""
    arrived = Arrived()
    app = fastapi.FastAPI()

    async def bulk(request):  # type: ignore[no-untyped-def]
        if arrived.refuses():
            return fastapi.Response("no more", 503)
        rows = (await request.json())["rows"]
        arrived.request_ids.add(request.headers["x-request"])
        arrived.ids += [row["id"] for row in rows]
        arrived.times |= {row["at"] for row in rows}

        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"stored": '
            yield b'{"count": %d}}' % len(rows)

        return fastapi.responses.StreamingResponse(pieces(), 201, media_type="application/json")

    bulk.__annotations__ = {"request": fastapi.Request}
    app.post("/bulk", response_model=None)(bulk)
    listener = socket.create_server(("127.0.0.1", 0))
    arrived.port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield arrived
    finally:
        server.should_exit = True
        await serving
        listener.close()


def descriptors() -> descriptor_pb2.FileDescriptorSet:
    """The description of the gRPC service, with the files that it needs before it."""
    needed = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(needed)
    file = descriptor_pb2.FileDescriptorProto(
        name="peer/v1/store.proto", package="peer.v1", syntax="proto3", dependency=[needed.name]
    )
    one, many = (
        descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
    )
    text, number, message = (
        descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
        descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
        descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
    )
    moment = ".google.protobuf.Timestamp"
    row, put, stored = (file.message_type.add(name=name) for name in ("Row", "Put", "Stored"))
    row.field.add(name="id", number=1, label=one, type=text)
    row.field.add(name="at", number=2, label=one, type=message, type_name=moment)
    put.field.add(name="request_id", number=1, label=one, type=text)
    put.field.add(name="rows", number=2, label=many, type=message, type_name=".peer.v1.Row")
    stored.field.add(name="row_count", number=1, label=one, type=number)
    service = file.service.add(name="Store")
    types = {"input_type": ".peer.v1.Put", "output_type": ".peer.v1.Stored"}
    service.method.add(name="Put", **types)
    service.method.add(name="PutStream", client_streaming=True, **types)
    return descriptor_pb2.FileDescriptorSet(file=[needed, file])


@contextlib.asynccontextmanager
async def grpc_peer(*, has_reflection: bool = True) -> AsyncIterator[Arrived]:
    """A grpc.aio server of peer.v1.Store/Put, whose reflection is of the older version alone."""
    arrived = Arrived()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptors().file:
        pool.Add(file)
    methods = pool.FindServiceByName(GRPC_SERVICE).methods_by_name
    put: Any = message_factory.GetMessageClass(methods["Put"].input_type)
    stored: Any = message_factory.GetMessageClass(methods["Put"].output_type)

    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if arrived.refuses():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no more")
        arrived.request_ids.add(request.request_id)
        arrived.ids += [row.id for row in request.rows]
        arrived.times |= {row.at.ToJsonString() for row in request.rows}
        return stored(row_count=len(request.rows))

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer, put.FromString, stored.SerializeToString)
    server.add_registered_method_handlers(GRPC_SERVICE, {"Put": handler})
    if has_reflection:
        reflection.enable_server_reflection([GRPC_SERVICE], server, pool)
    arrived.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield arrived
    finally:
        await server.stop(None)
