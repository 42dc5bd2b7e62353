"""A call: its credential, and bytes that are no message, or one that is too large."""

from __future__ import annotations

import json
from typing import Any

import grpc as grpc_library
import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from core.access.slice_turns import SliceTurns
from grpc_api.pb import ingest_pb2 as pb
from tests.support.driver import Reply
from tests.support.grpc_driver import GrpcDriver, error_reply, event_message
from tests.support.stream_client import Stream
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio
METHOD = "/wepeople.ingest.v1.IngestService/"
MAX_BODY_BYTES = 1_048_576
MAX_RECEIVE_BYTES = 1_310_720


async def call(
    client: GrpcDriver,
    method: str,
    data: bytes,
    *authorizations: str,
    compression: grpc_library.Compression | None = None,
) -> bytes:
    """A unary call with hand-made bytes."""
    rpc: Any = client.channel.unary_unary(METHOD + method)
    metadata = [("authorization", one) for one in authorizations]
    return bytes(await rpc(data, metadata=metadata, compression=compression, timeout=30))


async def failure(
    client: GrpcDriver, method: str, data: bytes, *authorizations: str, **options: Any
) -> grpc_library.aio.AioRpcError:
    """The error that such a call ends with."""
    with pytest.raises(grpc_library.aio.AioRpcError) as caught:
        await call(client, method, data, *authorizations, **options)
    return caught.value


def bearer(tenant: Tenant) -> str:
    """The credential of a tenant."""
    return f"Bearer {tenant.key}"


def request(*events: pb.IngestEvent) -> bytes:
    """A whole request as bytes."""
    return pb.IngestEventsRequest(events=events).SerializeToString()


def field(number: int, payload: bytes | str) -> bytes:
    """A length-delimited field as it stands on the wire."""
    data = payload.encode() if isinstance(payload, str) else payload
    length, size = b"", len(data)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def padded(size: int) -> bytes:
    """A valid request of that many bytes, nearly all of them in a field nobody knows."""
    data = request(event_message(event()))
    data += field(15, bytes(size - len(data) - 50))
    return data + field(15, bytes(size - len(data) - 2))


async def test_unknown_fields_are_ignored(grpc: GrpcDriver, tenant: Tenant) -> None:
    one = event_message(event()).SerializeToString()
    data = field(1, one + field(14, "later")) + field(15, b"later") + bytes([13 << 3, 1])
    response = pb.IngestEventsResponse.FromString(
        await call(grpc, "IngestEvents", data, bearer(tenant))
    )
    assert len(response.accepted) == 1
    ping = await call(grpc, "Ping", field(3, "later"), bearer(tenant))
    assert pb.PingResponse.FromString(ping).organization_id == tenant.organization_id


async def test_messages_in_pieces_are_put_together(grpc: GrpcDriver, tenant: Tenant) -> None:
    # "a parser must merge them": https://protobuf.dev/programming-guides/encoding/#last-one-wins
    one = event_message(event())
    actor, metadata = pb.Actor(display_name="Zoë Ada"), Struct()
    metadata.update({"a": 1})
    later = Struct()
    later.update({"b": 2})
    pieces = [field(6, one.SerializeToString()) for one in (metadata, later)]
    data = field(
        1, b"".join([one.SerializeToString(), field(3, actor.SerializeToString()), *pieces])
    )
    await call(grpc, "IngestEvents", data, bearer(tenant))
    [stored] = await tenant.events()
    assert json.loads(stored["metadata"]) == {"a": 1, "b": 2}
    [worker] = await tenant.workers()
    assert worker["display_name"] == "Zoë Ada"


def _strings() -> dict[str, bytes]:
    bad = b"\xff\xfe"
    rest = field(2, "code")
    actor = field(3, field(2, "crm-user-1"))
    return {
        "event_type": field(1, field(1, bad) + rest + actor),
        "external_id": field(1, field(1, "deal.won") + rest + field(3, field(2, bad))),
        "surrogate": field(1, field(1, "deal.won") + rest + field(3, field(2, b"\xed\xa0\x80"))),
        "idempotency_key": request(event_message(event())) + field(2, bad),
        "name in a Struct": field(
            1, field(1, "deal.won") + rest + actor + field(6, field(1, field(1, bad)))
        ),
    }


@pytest.mark.parametrize("name", _strings())
async def test_invalid_utf8_is_refused_with_details(
    name: str, grpc: GrpcDriver, tenant: Tenant
) -> None:
    error = await failure(grpc, "IngestEvents", _strings()[name], bearer(tenant))
    assert error.code() is grpc_library.StatusCode.INVALID_ARGUMENT
    assert error_reply(error).code == "invalid_body"
    assert await tenant.events() == []


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 40,
        b"\x0a\xff\xff\xff\xff\x0f",  # a length beyond the end
        b"\x0b" * 300,  # groups within groups
        b'{"events": []}',
        request(event_message(event()))[:-3],
    ],
)
@pytest.mark.parametrize("method", ["IngestEvents", "IngestSnapshot"])
async def test_garbage_is_refused_with_details(
    method: str, data: bytes, grpc: GrpcDriver, tenant: Tenant
) -> None:
    error = await failure(grpc, method, data, bearer(tenant))
    assert error.code() is grpc_library.StatusCode.INVALID_ARGUMENT
    assert error_reply(error).code == "invalid_body"


async def test_a_struct_too_deep_for_the_parser_is_refused_with_details(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    struct = b""
    for _ in range(60):  # a Struct with a member "a" that is a Struct
        struct = field(1, field(1, "a") + field(2, field(5, struct)))
    data = request(event_message(event())) + field(1, field(6, struct))
    error = await failure(grpc, "IngestEvents", data, bearer(tenant))
    assert error_reply(error).code == "invalid_body"
    assert await tenant.events() == []


async def test_the_credential_is_judged_before_the_message(grpc: GrpcDriver) -> None:
    for data in (b"\xff" * 40, bytes(MAX_BODY_BYTES + 1)):
        error = await failure(grpc, "IngestEvents", data)
        assert error_reply(error).code == "missing_authorization"


async def test_a_large_message_is_parsed_in_a_turn_of_its_organization(
    grpc: GrpcDriver, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[tuple[object, str]] = []
    run = SliceTurns.run

    async def noted(self: SliceTurns, flow: Any, work: Any) -> Any:
        turns.append((flow, work.__name__))
        return await run(self, flow, work)

    monkeypatch.setattr(SliceTurns, "run", noted)
    large = [event(metadata={"x": "y" * 10_000})] * 50
    expected = [(tenant.organization.id.int, name) for name in ("parsed", "_merged")]
    assert len((await grpc.ingest(tenant.key, large)).accepted) == 50
    assert turns[:2] == expected
    turns.clear()
    stream = Stream(grpc.channel, tenant.key)
    await stream.send(*large)
    assert (await stream.ack()).accepted == 50
    assert turns[:2] == expected
    await stream.close()
    error = await failure(grpc, "IngestEvents", b"\xff" * 500_000, bearer(tenant))
    assert error_reply(error).code == "invalid_body"


async def test_a_message_may_have_one_mebibyte(grpc: GrpcDriver, tenant: Tenant) -> None:
    data = padded(MAX_BODY_BYTES)
    assert len(data) == MAX_BODY_BYTES
    await call(grpc, "IngestEvents", data, bearer(tenant))
    assert len(await tenant.events()) == 1


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, MAX_RECEIVE_BYTES])
async def test_a_larger_message_is_too_large_with_details(
    size: int, grpc: GrpcDriver, tenant: Tenant
) -> None:
    error = await failure(grpc, "IngestEvents", padded(size), bearer(tenant))
    assert error.code() is grpc_library.StatusCode.INVALID_ARGUMENT
    reply = error_reply(error)
    assert reply.code == "batch_too_large"
    assert str(MAX_BODY_BYTES) in reply.message


async def test_a_message_over_the_librarys_limit_ends_the_call_and_not_the_connection(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    error = await failure(grpc, "IngestEvents", padded(MAX_RECEIVE_BYTES + 1), bearer(tenant))
    assert error.code() is grpc_library.StatusCode.RESOURCE_EXHAUSTED
    assert (await grpc.ping(tenant.key)).code is None


@pytest.mark.parametrize(
    "compression", [grpc_library.Compression.Gzip, grpc_library.Compression.Deflate]
)
async def test_compressed_messages_count_as_what_they_become(
    compression: grpc_library.Compression, grpc: GrpcDriver, tenant: Tenant
) -> None:
    data = request(event_message(event()))
    await call(grpc, "IngestEvents", data, bearer(tenant), compression=compression)
    assert len(await tenant.events()) == 1
    error = await failure(
        grpc, "IngestEvents", padded(MAX_BODY_BYTES + 1), bearer(tenant), compression=compression
    )
    assert error_reply(error).code == "batch_too_large"
    bomb = bytes(64 * MAX_BODY_BYTES)  # tens of kilobytes on the wire
    error = await failure(grpc, "IngestEvents", bomb, bearer(tenant), compression=compression)
    assert error.code() is grpc_library.StatusCode.RESOURCE_EXHAUSTED
    assert (await grpc.ping(tenant.key)).code is None


async def _code(client: GrpcDriver, *authorizations: str) -> Reply:
    return error_reply(await failure(client, "Ping", b"", *authorizations))


async def test_two_credentials_are_invalid(grpc: GrpcDriver, tenant: Tenant) -> None:
    assert (await _code(grpc, bearer(tenant), bearer(tenant))).code == "invalid_key"


@pytest.mark.parametrize(
    "form", ["{}", "Basic {}", "Bearer: {}", "Bearer {} x", "Bearer {}, Bearer {}", "", "Bearer"]
)
async def test_other_schemes_are_invalid(form: str, grpc: GrpcDriver, tenant: Tenant) -> None:
    reply = await _code(grpc, form.replace("{}", tenant.key))
    assert reply.code == "invalid_key"
    assert tenant.key not in reply.message


async def test_the_scheme_is_read_without_regard_to_case(grpc: GrpcDriver, tenant: Tenant) -> None:
    assert await call(grpc, "Ping", b"", f"bEARER  {tenant.key}")


def test_the_largest_batch_of_plain_events_fits() -> None:
    whole: Message = pb.IngestEventsRequest(events=[event_message(event())] * 500)
    assert whole.ByteSize() < MAX_BODY_BYTES / 10
