"""The methods of the service: request ids, and methods that do not exist."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc as grpc_library
import pytest
from google.rpc import error_details_pb2

from tests.support.grpc_driver import GrpcDriver, error_details
from tests.support.http_driver import HttpDriver
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio
METHOD = "/wepeople.ingest.v1.IngestService/"


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
