"""The behaviour suite's client of the gRPC API. It checks the details of every error it sees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from core.timestamps import format_us, parse
from grpc_api.pb import ingest_pb2 as pb
from grpc_api.pb.ingest_pb2_grpc import IngestServiceStub
from tests.support.driver import JsonObject, Rejected, Reply

# Written out again on purpose: the contract's table, not the code's.
STATUS = {
    "missing_authorization": grpc.StatusCode.UNAUTHENTICATED,
    "invalid_key": grpc.StatusCode.UNAUTHENTICATED,
    "key_revoked": grpc.StatusCode.UNAUTHENTICATED,
    "key_expired": grpc.StatusCode.UNAUTHENTICATED,
    "plan_disabled": grpc.StatusCode.FAILED_PRECONDITION,
    "quota_exceeded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "rate_limited": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "forbidden_event_type": grpc.StatusCode.PERMISSION_DENIED,
    "invalid_body": grpc.StatusCode.INVALID_ARGUMENT,
    "batch_too_large": grpc.StatusCode.INVALID_ARGUMENT,
    "missing_actor": grpc.StatusCode.INVALID_ARGUMENT,
    "worker_not_found": grpc.StatusCode.NOT_FOUND,
    "internal_error": grpc.StatusCode.INTERNAL,
}


class GrpcDriver:
    """Speaks gRPC. A test is skipped if it needs something that only JSON can say."""

    name = "grpc"

    def __init__(self, target: str, *, own_connection: bool = False) -> None:
        options = [("grpc.use_local_subchannel_pool", int(own_connection))]
        self.channel = grpc.aio.insecure_channel(target, options=options)
        self.stub = IngestServiceStub(self.channel)

    async def ping(self, key: str | None) -> Reply:
        """Ping."""
        return await self._call(self.stub.Ping, pb.PingRequest(), key)

    async def ingest(
        self,
        key: str | None,
        events: Sequence[JsonObject],
        idempotency_key: str | None = None,
    ) -> Reply:
        """IngestEvents."""
        request = pb.IngestEventsRequest(
            events=[event_message(event) for event in events], idempotency_key=idempotency_key
        )
        return await self._call(self.stub.IngestEvents, request, key)

    async def snapshot(
        self, key: str | None, snapshot: JsonObject, idempotency_key: str | None = None
    ) -> Reply:
        """IngestSnapshot."""
        members = _message_members(snapshot, pb.IngestSnapshotRequest)
        request = pb.IngestSnapshotRequest(idempotency_key=idempotency_key, **members)
        return await self._call(self.stub.IngestSnapshot, request, key)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()

    async def _call(self, method: Any, request: Any, key: str | None) -> Reply:
        metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        call = method(request, metadata=metadata, timeout=30)
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            return error_reply(error)
        request_id = dict(await call.initial_metadata())["x-request-id"]
        assert str(request_id).startswith("req_")
        return _reply(response, str(request_id))


def event_message(event: JsonObject) -> pb.IngestEvent:
    """The message of an event in its JSON form."""
    return pb.IngestEvent(**_message_members(event, pb.IngestEvent))


_NAMES = {
    "eventType": "event_type",
    "snapshotType": "snapshot_type",
    "category": "category",
    "workerId": "worker_id",
    "externalId": "external_id",
    "email": "email",
    "displayName": "display_name",
}


def _message_members(item: JsonObject, message_type: Any) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in item.items():
        if name in _NAMES:
            members[_NAMES[name]] = _text(value)
        elif name == "actor":
            _need(isinstance(value, dict))
            members["actor"] = pb.Actor(**_message_members(value, pb.Actor))
        elif name == "timestamp":
            members["timestamp"] = _timestamp(_text(value))
        elif name == "duration":
            # protobuf has one kind of integer: 240.0 is sent as 240.
            _need(isinstance(value, int | float) and not isinstance(value, bool))
            _need(float(value).is_integer() and abs(value) < 2**63)
            members["duration_seconds"] = int(value)
        elif name in ("metadata", "metrics"):
            # As bytes, so that the text is the test's own, to the last digit.
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            _need(_is_encodable(text))
            members[f"{name}_json"] = text.encode()
        else:
            pytest.skip(f"protobuf has no place for an unknown member {name}")
    return members


def _text(value: object) -> str:
    _need(isinstance(value, str) and _is_encodable(value))
    return str(value)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _need(expressible: bool) -> None:
    if not expressible:
        pytest.skip("protobuf cannot say this")


def _timestamp(text: str) -> Timestamp:
    try:
        us, _ = parse(text)
    except ValueError:
        pytest.skip("protobuf has no place for a malformed timestamp")
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1_000)


def _rejected(messages: Any) -> list[Rejected]:
    return [Rejected(one.index, one.code, one.message) for one in messages]


def _reply(response: Any, request_id: str) -> Reply:
    match response:
        case pb.IngestEventsResponse():
            assert response.batch_limit == 500
            assert response.request_id == request_id
            accepted = [
                (
                    one.event_type,
                    format_us(one.timestamp.seconds * 1_000_000 + one.timestamp.nanos // 1_000),
                )
                for one in response.accepted
            ]
            answer = pb.IngestEventsResponse()
            answer.CopyFrom(response)
            answer.ClearField("replayed")
            return Reply(
                code=None,
                request_id=response.request_id,
                accepted=accepted,
                rejected=_rejected(response.rejected),
                replayed=response.replayed,
                answer=answer.SerializeToString(deterministic=True),
            )
        case pb.IngestSnapshotResponse():
            assert response.request_id == request_id
            worker = {"id": response.worker.id, "displayName": response.worker.display_name}
            body = {
                "requestId": response.request_id,
                "ok": True,
                "snapshotType": response.snapshot_type,
                "worker": worker,
            }
            return Reply(
                code=None,
                request_id=response.request_id,
                body=body,
                replayed=response.replayed,
                answer=body,
            )
        case _:
            app = {"id": response.app.id, "slug": response.app.slug, "name": response.app.name}
            body = {"ok": True, "organizationId": response.organization_id, "app": app}
            return Reply(code=None, request_id=request_id, body=body)


def error_reply(error: grpc.aio.AioRpcError) -> Reply:
    """Check the details that the contract promises of every error, and take them apart."""
    details = error_details(error)
    info = details[error_details_pb2.ErrorInfo]
    code = info.reason.lower()
    assert info.domain == "wepeople.app"
    assert info.metadata["requestId"].startswith("req_")
    assert info.metadata["docsUrl"].endswith(f"/developers/reference#{code}")
    initial = dict(error.initial_metadata() or ())
    assert initial["x-request-id"] == info.metadata["requestId"]
    transient = code == "internal_error" and error.code() is grpc.StatusCode.UNAVAILABLE
    assert transient or error.code() is STATUS[code]
    retry = details.get(error_details_pb2.RetryInfo)
    assert (retry is not None) == (code == "rate_limited" or transient)
    assert (error_details_pb2.QuotaFailure in details) == (code == "quota_exceeded")
    bad_request = code in ("invalid_body", "missing_actor")
    assert (error_details_pb2.BadRequest in details) == bad_request
    listed = details.get(pb.IngestEventsResponse)
    return Reply(
        code=code,
        request_id=info.metadata["requestId"],
        message=error.details() or "",
        docs_url=info.metadata["docsUrl"],
        rejected=_rejected(listed.rejected) if listed else (),
        retry_after_seconds=retry.retry_delay.ToMicroseconds() / 1e6 if retry else None,
    )


def error_details(error: grpc.aio.AioRpcError) -> dict[Any, Any]:
    """The details of an error's status, by type."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None, f"no details: {error!r}"
    types = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.QuotaFailure,
        pb.IngestEventsResponse,
    )
    details: dict[Any, Any] = {}
    for packed in status.details:
        message = next(kind() for kind in types if packed.Is(kind.DESCRIPTOR))
        packed.Unpack(message)
        details[type(message)] = message
    return details
