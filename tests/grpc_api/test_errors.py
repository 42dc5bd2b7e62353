"""Errors on the wire: every code has its status, and details that say what to do."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

import grpc as grpc_library
import pytest
from google.rpc import error_details_pb2

from core.error_codes import ErrorCode, StreamReason
from grpc_api.errors import GRPC_STATUS, STREAM_STATUS
from grpc_api.pb import ingest_pb2 as pb
from tests.conftest import MakeTenant
from tests.grpc_api.conftest import Connect
from tests.support import grpc_driver, stream_client
from tests.support.driver import Reply
from tests.support.grpc_driver import GrpcDriver, error_details
from tests.support.running_service import RunningService
from tests.support.tenant import UNKNOWN_KEY, Tenant, event, make_tenant, snapshot

pytestmark = pytest.mark.anyio
MAX_TRAILER_BYTES = 8 * 1024  # what clients accept, unless told otherwise

UNKNOWN_WORKER = "wrk_" + "0" * 26


async def failure(call: Any) -> grpc_library.aio.AioRpcError:
    """The error that a call ends with."""
    with pytest.raises(grpc_library.aio.AioRpcError) as caught:
        await call
    return caught.value


def ingest(
    client: GrpcDriver, key: str, *events: dict[str, Any], **members: Any
) -> grpc_library.aio.UnaryUnaryCall[Any, Any]:
    """A call that the test takes apart itself."""
    request = pb.IngestEventsRequest(
        events=[grpc_driver.event_message(one) for one in events], **members
    )
    return client.stub.IngestEvents(request, metadata=(("authorization", f"Bearer {key}"),))


def trailer_bytes(error: grpc_library.aio.AioRpcError) -> int:
    """The size of an error's trailing metadata as HTTP/2 counts it."""
    metadata = [
        *((name, value) for name, value in error.trailing_metadata() or ()),
        ("grpc-status", "3"),
        ("grpc-message", urllib.parse.quote(error.details() or "", safe=" ")),
    ]
    total = 0
    for name, value in metadata:
        length = len(value) if isinstance(value, str) else -(-len(value) * 4 // 3)
        total += len(name) + length + 32
    return total


def test_every_code_has_the_status_of_the_contract() -> None:
    assert {code.value: status for code, status in GRPC_STATUS.items()} == grpc_driver.STATUS
    assert set(GRPC_STATUS) == set(ErrorCode)
    assert len(GRPC_STATUS) == 13


def test_every_stream_reason_has_the_status_of_the_contract() -> None:
    statuses = {reason.value.upper(): status for reason, status in STREAM_STATUS.items()}
    assert statuses == stream_client.STREAM_STATUS
    assert set(STREAM_STATUS) == set(StreamReason)


async def _expired(make: MakeTenant) -> Tenant:
    tenant = await make()
    await tenant.expire()
    return tenant


async def _revoked(make: MakeTenant) -> Tenant:
    tenant = await make()
    await tenant.revoke()
    return tenant


def _with(**options: Any) -> Callable[[MakeTenant], Awaitable[Tenant]]:
    return lambda make: make(**options)


async def _at_once(client: GrpcDriver, key: str) -> Reply:
    """More at once than a busy machine gives tokens for; the reply to one that got none."""
    replies = await asyncio.gather(*(client.ping(key) for _ in range(20)))
    return next((reply for reply in replies if reply.code is not None), replies[0])


Attempt = Callable[[GrpcDriver, str], Awaitable[Reply]]
# Every code but internal_error; error_reply checks status, ErrorInfo and which details there are.
FAILURES: dict[str, tuple[Callable[[MakeTenant], Awaitable[Tenant]], Attempt]] = {
    "missing_authorization": (_with(), lambda client, _: client.ping(None)),
    "invalid_key": (_with(), lambda client, _: client.ping(UNKNOWN_KEY)),
    "key_revoked": (_revoked, lambda client, key: client.ping(key)),
    "key_expired": (_expired, lambda client, key: client.ping(key)),
    "plan_disabled": (_with(developer_api=False), lambda client, key: client.ping(key)),
    "quota_exceeded": (_with(monthly_quota=0), lambda client, key: client.ingest(key, [event()])),
    "rate_limited": (_with(key_requests_per_second=1), _at_once),
    "forbidden_event_type": (
        _with(),
        lambda client, key: client.ingest(key, [event(eventType="not.allowed")]),
    ),
    "invalid_body": (_with(), lambda client, key: client.ingest(key, [event(duration=-1)])),
    "batch_too_large": (_with(), lambda client, key: client.ingest(key, [event()] * 501)),
    "missing_actor": (_with(), lambda client, key: client.ingest(key, [event(actor=...)])),
    "worker_not_found": (
        _with(),
        lambda client, key: client.ingest(key, [event(actor={"workerId": UNKNOWN_WORKER})]),
    ),
}


@pytest.mark.parametrize("code", FAILURES)
async def test_every_failure_carries_its_status_and_details(
    code: str, grpc: GrpcDriver, new_tenant: MakeTenant
) -> None:
    make, attempt = FAILURES[code]
    tenant = await make(new_tenant)
    reply = await attempt(grpc, tenant.key)
    assert reply.code == code
    assert reply.message
    assert await tenant.events() == []


def test_every_code_is_tried() -> None:
    assert set(FAILURES) | {"internal_error"} == {code.value for code in ErrorCode}


async def test_an_unexpected_failure_is_internal_and_tells_nothing(
    database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url) as service:
        client = connect(service.addresses)
        await tenant.rows("DROP TABLE events")
        error = await failure(ingest(client, tenant.key, event()))
    reply = grpc_driver.error_reply(error)
    assert reply.code == "internal_error"
    assert error.code() is grpc_library.StatusCode.INTERNAL
    assert "events" not in reply.message


async def test_quota_failure_names_the_organization(
    grpc: GrpcDriver, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=0)
    error = await failure(ingest(grpc, tenant.key, event()))
    [violation] = error_details(error)[error_details_pb2.QuotaFailure].violations
    assert violation.subject == tenant.organization_id
    assert "quota" in violation.description


async def test_retry_info_says_when_the_next_token_is_there(
    grpc: GrpcDriver, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(key_requests_per_second=2)
    replies = await asyncio.gather(*(grpc.ping(tenant.key) for _ in range(20)))
    waits = [reply.retry_after_seconds for reply in replies if reply.code == "rate_limited"]
    assert 2 <= [reply.code for reply in replies].count(None) == len(replies) - len(waits) < 20
    assert all(wait is not None and 0 < wait <= 0.5 for wait in waits)
    await asyncio.sleep(min(wait for wait in waits if wait is not None) + 0.01)
    assert (await grpc.ping(tenant.key)).code is None


async def test_bad_request_names_each_field(grpc: GrpcDriver, tenant: Tenant) -> None:
    wrong = event(category="sports", duration=86_401, actor={"externalId": ""})
    error = await failure(ingest(grpc, tenant.key, wrong, event(eventType="!")))
    bad_request = error_details(error)[error_details_pb2.BadRequest]
    found = {violation.field: violation.description for violation in bad_request.field_violations}
    assert set(found) == {
        "events[0].category",
        "events[0].duration",
        "events[0].actor.externalId",
        "events[1].eventType",
    }
    assert found["events[0].duration"] == "must be at most 86400"


async def test_none_accepted_lists_the_rejected_events(grpc: GrpcDriver, tenant: Tenant) -> None:
    error = await failure(
        ingest(grpc, tenant.key, event(eventType="not.allowed"), event(duration=-1))
    )
    assert error.code() is grpc_library.StatusCode.PERMISSION_DENIED
    listed = error_details(error)[pb.IngestEventsResponse]
    assert [(one.index, one.code) for one in listed.rejected] == [
        (0, "forbidden_event_type"),
        (1, "invalid_body"),
    ]
    assert listed.batch_limit == 500
    assert not listed.accepted


async def test_five_hundred_long_rejections_reach_the_client(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    wrong = event(
        eventType="!",
        category="?",
        duration=-1,
        actor={"workerId": "", "externalId": "", "email": "", "displayName": ""},
        metadata=[],
    )
    error = await failure(ingest(grpc, tenant.key, *[wrong] * 500))
    assert grpc_driver.error_reply(error).code == "invalid_body"
    assert trailer_bytes(error) < MAX_TRAILER_BYTES
    listed = error_details(error)[pb.IngestEventsResponse]
    assert [one.index for one in listed.rejected][:5] == [0, 1, 2, 3, 4]


async def test_an_error_that_quotes_wide_characters_reaches_the_client(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    metrics = {f"{index}" + "\N{GRINNING FACE}" * 99: True for index in range(9)}
    members = grpc_driver._message_members(snapshot(metrics=metrics), pb.IngestSnapshotRequest)
    metadata = (("authorization", f"Bearer {tenant.key}"),)
    call = grpc.stub.IngestSnapshot(pb.IngestSnapshotRequest(**members), metadata=metadata)
    error = await failure(call)
    assert grpc_driver.error_reply(error).code == "invalid_body"
    assert trailer_bytes(error) < MAX_TRAILER_BYTES
