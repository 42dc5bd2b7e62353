"""The methods of the service: request ids, and methods that do not exist."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc as grpc_library
import pytest
from google.rpc import error_details_pb2

from core import ingest
from core.ingest import Ingestor
from core.models import Budget, Caller
from grpc_api import servicer
from grpc_api.arrivals import MAX_ARRIVING
from grpc_api.call import LOOKAHEAD_BYTES
from grpc_api.pb import ingest_pb2 as pb
from tests.grpc_api.conftest import Connect
from tests.pressure.http2 import Http2, call_headers, message
from tests.support.grpc_driver import GrpcDriver, error_details, error_reply, event_message
from tests.support.http_driver import HttpDriver
from tests.support.manual_time import ManualTime
from tests.support.running_service import Addresses, RunningService
from tests.support.stream_client import Stream
from tests.support.tenant import Tenant, event, make_tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio
METHOD = "/wepeople.ingest.v1.IngestService/"
INITIAL_WINDOW = 65_535  # of a connection, in bytes (RFC 9113, section 6.9.2)
EXHAUSTED = grpc_library.StatusCode.RESOURCE_EXHAUSTED
UNFINISHED_BYTES = 1_048_576


def _call_unknown(target: str, shape: str, method: str) -> Any:
    """Blocking, as :func:`tests.support.stream_client.flood`, and for the same reason."""
    with grpc_library.insecure_channel(target) as channel:
        rpc: Any = getattr(channel, shape)(method)
        try:
            list(rpc(b"" if shape.startswith("unary") else iter([b"", b""]), timeout=30))
        except grpc_library.RpcError as error:
            return error
    return None


@pytest.mark.parametrize("service", [METHOD, "/wepeople.ingest.v2.IngestService/", "/x/"])
@pytest.mark.parametrize("shape", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_an_unknown_method_is_unimplemented_with_details(
    service: str, shape: str, server: Addresses, http: HttpDriver
) -> None:
    method = service + "DropEverything"
    error = await asyncio.to_thread(_call_unknown, server.grpc, shape, method)
    assert error.code() is grpc_library.StatusCode.UNIMPLEMENTED
    assert error.details() == f"There is no method {method}."
    details = error_details(error)
    assert list(details) == [error_details_pb2.ErrorInfo]
    info = details[error_details_pb2.ErrorInfo]
    assert (info.reason, info.domain) == ("NOT_FOUND", "wepeople.app")
    page, _, section = info.metadata["docsUrl"].partition("#")
    assert f'id="{section}"' in (await http.client.get(page)).text
    initial = dict(error.initial_metadata() or ())
    assert initial["x-request-id"] == info.metadata["requestId"]
    assert info.metadata["requestId"].startswith("req_")


async def test_request_ids_differ_and_link_to_the_reference(
    grpc: GrpcDriver, http: HttpDriver, tenant: Tenant
) -> None:
    replies = [await grpc.ingest(tenant.key, [event()]) for _ in range(3)]
    assert len({reply.request_id for reply in replies}) == 3
    failed = await grpc.ping(None)
    assert failed.docs_url.startswith(str(http.client.base_url).rstrip("/"))
    assert (await http.client.get(failed.docs_url)).status_code == 200


async def test_opening_a_stream_costs_a_token(database_url: str, connect: Connect) -> None:
    tenant = await make_tenant(database_url, key_requests_per_second=2)
    moved = ManualTime()
    with RunningService(database_url, moved.clock) as service:
        channel = connect(service.addresses).channel
        opened = [Stream(channel, tenant.key) for _ in range(2)]
        for number, one in enumerate(opened):
            assert await one.open(f"producer-{number}") == 0
        refused = Stream(channel, tenant.key)
        end = await refused.end()  # which looks for its RetryInfo
        assert (end.status, end.reason) == (EXHAUSTED, "RATE_LIMITED")
        assert refused.opened is None
        moved.advance(0.5)
        later = Stream(channel, tenant.key)
        assert await later.open("producer-3") == 0
        for one in (*opened, later):
            await one.close()


@pytest.mark.parametrize("messages", [0, 2])
async def test_a_unary_call_has_one_message(
    messages: int, grpc: GrpcDriver, tenant: Tenant
) -> None:
    rpc: Any = grpc.channel.stream_unary(METHOD + "IngestEvents")
    message = pb.IngestEventsRequest(events=[event_message(event())]).SerializeToString()
    metadata = (("authorization", f"Bearer {tenant.key}"),)
    with pytest.raises(grpc_library.aio.AioRpcError) as caught:
        await rpc(iter([message] * messages), metadata=metadata, timeout=30)
    assert error_reply(caught.value).code == "invalid_body"
    assert await tenant.events() == []


@pytest.mark.parametrize("late", ["message", "answer"])
async def test_a_unary_call_has_a_deadline(
    late: str, database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {"message": "MAX_ARRIVAL_SECONDS", "answer": "MAX_SERVE_SECONDS"}[late]
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        client = connect(service.addresses)
        assert (await client.ping(tenant.key)).code is None
        monkeypatch.setattr(servicer, name, 0.5)
        if late == "message":
            rpc: Any = client.channel.stream_unary(METHOD + "Ping")
            call = rpc(metadata=(("authorization", f"Bearer {tenant.key}"),), timeout=30)
            with pytest.raises(grpc_library.aio.AioRpcError) as caught:
                await call
            reply = error_reply(caught.value)
        else:
            async with await tenant.connect() as db, db.transaction():
                await db.execute("LOCK TABLE events IN SHARE MODE")
                reply = await client.ingest(tenant.key, [event()])
    assert reply.code == "internal_error"
    assert reply.retry_after_seconds
    assert ("may or may not" in reply.message) == (late == "answer")


@pytest.mark.parametrize(
    ("change", "code"), [("revoke", "key_revoked"), ("deny", "forbidden_event_type")]
)
async def test_the_rights_that_count_are_those_after_a_slow_message(
    grpc: GrpcDriver, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, change: str, code: str
) -> None:
    admitted = threading.Event()
    admit = Ingestor.admit

    async def note(ingestor: Ingestor, authorization: str | None) -> tuple[Caller, Budget]:
        caller = await admit(ingestor, authorization)
        admitted.set()
        return caller

    monkeypatch.setattr(Ingestor, "admit", note)
    monkeypatch.setattr(ingest, "MAX_CALLER_AGE_SECONDS", 0)
    rpc: Any = grpc.channel.stream_unary(METHOD + "IngestEvents")
    call = rpc(metadata=(("authorization", f"Bearer {tenant.key}"),), timeout=30)
    await eventually(admitted.is_set, "the call is admitted before its message")
    await (tenant.revoke() if change == "revoke" else tenant.deny("ticket.resolved"))

    async def is_in_force() -> bool:
        return (await grpc.ingest(tenant.key, [event()])).code == code

    await eventually(is_in_force, "the change is in force")
    stored = len(await tenant.events())
    await call.write(pb.IngestEventsRequest(events=[event_message(event())]).SerializeToString())
    await call.done_writing()
    with pytest.raises(grpc_library.aio.AioRpcError) as caught:
        await call
    assert error_reply(caught.value).code == code
    assert len(await tenant.events()) == stored


class Unfinished(Http2):
    """Calls whose message never gets its last byte."""

    def __init__(self, key: str | None, calls: int) -> None:
        super().__init__()
        self._headers = call_headers("IngestEvents", key)
        self._calls = calls
        self.begun: set[int] = set()
        self.done: set[int] = set()

    def begin_calls(self) -> None:
        data = message(bytes(UNFINISHED_BYTES), declared=UNFINISHED_BYTES + 1)
        self.begun = {self.open(self._headers, data, end=False) for _ in range(self._calls)}

    def ended(self, stream: int) -> None:
        self.done.add(stream)

    @property
    def left_bytes(self) -> int:
        """What the server did not take of them."""
        return sum(len(data) for data, _ in self._waiting.values())


async def test_strangers_are_refused_before_their_messages_have_arrived(server: Addresses) -> None:
    host, _, port = server.grpc.rpartition(":")
    loop = asyncio.get_running_loop()
    transport, calls = await loop.create_connection(lambda: Unfinished(None, 50), host, int(port))
    await eventually(lambda: calls.done == calls.begun, "all are refused")
    transport.close()


async def test_few_messages_of_an_organization_arrive_at_a_time(
    database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url)
    other = await make_tenant(database_url)
    # The library waits for what has not arrived at the end.
    with RunningService(database_url, drain_seconds=1.0) as service:
        host, _, port = service.addresses.grpc.rpartition(":")
        make = lambda: Unfinished(tenant.key, 90)  # noqa: E731
        loop = asyncio.get_running_loop()
        transport, calls = await loop.create_connection(make, host, int(port))
        taken = MAX_ARRIVING * (UNFINISHED_BYTES + 5)
        offered = 90 * (UNFINISHED_BYTES + 5)

        def arrived() -> bool:
            return offered - calls.left_bytes >= taken

        await eventually(arrived, "as many as may arrive")
        assert (await connect(service.addresses).ingest(other.key, [event()])).code is None
        # The library takes the first 16 KiB of the others, as it does not know that they must wait;
        # and as much as HTTP/2 begins with, until the client has read how much that is.
        looked_at = (90 - MAX_ARRIVING) * LOOKAHEAD_BYTES + INITIAL_WINDOW
        assert offered - calls.left_bytes <= taken + looked_at
        assert not calls.done
        transport.close()
