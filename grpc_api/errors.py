"""The error catalogue in gRPC: a status for each error, with the details of google.rpc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from core.error_codes import ErrorCode, StreamReason, docs_url
from core.errors import IngestError, StreamError
from core.limits import MAX_BATCH_EVENTS
from core.models import Rejection
from grpc_api.pb import ingest_pb2 as pb
from grpc_api.responses import rejected_events

DOMAIN: Final = "wepeople.app"
# Status details travel in trailing metadata, which clients bound at 8 KiB. These count bytes of
# UTF-8: the metadata holds a message twice, percent-encoded and, inside the details, in base64.
MAX_MESSAGE_BYTES: Final = 500
MAX_DETAILED_REJECTIONS: Final = 10
MAX_DETAIL_BYTES: Final = 110

# An INTERNAL_ERROR that a retry can cure has UNAVAILABLE instead (:func:`status_of`).
GRPC_STATUS: Final[dict[ErrorCode, grpc.StatusCode]] = {
    ErrorCode.MISSING_AUTHORIZATION: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.INVALID_KEY: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.KEY_REVOKED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.KEY_EXPIRED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.PLAN_DISABLED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.FORBIDDEN_EVENT_TYPE: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.INVALID_BODY: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.BATCH_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.MISSING_ACTOR: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.WORKER_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.INTERNAL_ERROR: grpc.StatusCode.INTERNAL,
}
STREAM_STATUS: Final[dict[StreamReason, grpc.StatusCode]] = {
    StreamReason.SEQUENCE_GAP: grpc.StatusCode.OUT_OF_RANGE,
    StreamReason.PRODUCER_TAKEN_OVER: grpc.StatusCode.ABORTED,
    StreamReason.STREAM_TOO_OLD: grpc.StatusCode.UNAVAILABLE,
    StreamReason.PRODUCER_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
# The reason for an unknown method. The reference page has it for unknown paths, too.
NOT_FOUND: Final = "not_found"


class UnknownMethodError(Exception):
    """A call of a method that the server does not have."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.message = f"There is no method {method}."


CallError = IngestError | StreamError | UnknownMethodError


def status_of(error: IngestError) -> grpc.StatusCode:
    """The status of an error of the catalogue."""
    if error.code is ErrorCode.INTERNAL_ERROR and error.transient:
        return grpc.StatusCode.UNAVAILABLE
    return GRPC_STATUS[error.code]


class StatusRenderer:
    """Renders errors as statuses. ``base_url`` is that of the reference page."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def render(
        self, error: CallError, request_id: str, organization: str = ""
    ) -> status_pb2.Status:
        """The status of an error, with at least an ErrorInfo.

        ``organization`` is the id of the caller's, as ``org_…``: the subject of a QuotaFailure.
        """
        details: list[Message] = []
        if isinstance(error, StreamError):
            reason, status = error.reason.value, STREAM_STATUS[error.reason]
        elif isinstance(error, UnknownMethodError):
            reason, status = NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED
        else:
            reason, status = error.code.value, status_of(error)
            details = _details(error, organization)
        info = error_details_pb2.ErrorInfo(
            reason=reason.upper(),
            domain=DOMAIN,
            metadata={
                "requestId": request_id,
                "docsUrl": docs_url(self._base_url, reason),
            },
        )
        return status_pb2.Status(
            code=code_pb2.Code.Value(status.name),
            message=_cut(error.message, MAX_MESSAGE_BYTES),
            details=[_packed(detail) for detail in (info, *details)],
        )


def _details(error: IngestError, organization: str) -> list[Message]:
    details: list[Message] = []
    if error.retry_after_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMicroseconds(round(error.retry_after_seconds * 1_000_000))
        details.append(retry)
    if error.code is ErrorCode.QUOTA_EXCEEDED:
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=organization, description=_cut(error.message, MAX_DETAIL_BYTES)
        )
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    if error.code in (ErrorCode.INVALID_BODY, ErrorCode.MISSING_ACTOR):
        details.append(_bad_request(error))
    if error.rejected is not None:
        details.append(
            pb.IngestEventsResponse(
                rejected=rejected_events(_shortened(error.rejected)),
                batch_limit=MAX_BATCH_EVENTS,
            )
        )
    return details


def _bad_request(error: IngestError) -> error_details_pb2.BadRequest:
    messages = [one.message for one in error.rejected] if error.rejected else [error.message]
    issues = [issue for message in messages for issue in message.split("; ")]
    violations = []
    for issue in issues[:MAX_DETAILED_REJECTIONS]:
        path, found, reason = issue.partition(": ")
        if not found:
            path, reason = "", issue
        violations.append(
            error_details_pb2.BadRequest.FieldViolation(
                field=_cut(path, MAX_DETAIL_BYTES),
                description=_cut(reason, MAX_DETAIL_BYTES),
            )
        )
    return error_details_pb2.BadRequest(field_violations=violations)


def _shortened(rejected: Sequence[Rejection]) -> list[Rejection]:
    return [
        Rejection(one.index, one.code, _cut(one.message, MAX_DETAIL_BYTES))
        for one in rejected[:MAX_DETAILED_REJECTIONS]
    ]


def _cut(text: str, most: int) -> str:
    encoded = text.encode()
    if len(encoded) <= most:
        return text
    return encoded[: most - len("…".encode())].decode(errors="ignore") + "…"


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
