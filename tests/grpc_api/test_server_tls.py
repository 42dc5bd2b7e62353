"""TLS and mutual TLS, with certificates made for the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc as grpc_library
import pytest

from grpc_api.pb import ingest_pb2 as pb
from grpc_api.pb.ingest_pb2_grpc import IngestServiceStub
from tests.support.certificates import Certificates, needs_openssl
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

pytestmark = [pytest.mark.anyio, needs_openssl]


@pytest.fixture(scope="module")
def tls(server: Addresses, certificates: Certificates) -> Iterator[Addresses]:
    """A service that shows a certificate."""
    with RunningService(
        server.database_url,
        grpc_tls_certificate=certificates["server.pem"],
        grpc_tls_key=certificates["server.key"],
    ) as service:
        yield service.addresses


async def ping(
    addresses: Addresses, tenant: Tenant, credentials: grpc_library.ChannelCredentials | None
) -> grpc_library.StatusCode:
    """The status of a ping."""
    async with (
        grpc_library.aio.insecure_channel(addresses.grpc)
        if credentials is None
        else grpc_library.aio.secure_channel(addresses.grpc, credentials)
    ) as channel:
        call = IngestServiceStub(channel).Ping(
            pb.PingRequest(), metadata=(("authorization", f"Bearer {tenant.key}"),), timeout=5
        )
        return await call.code()


OK = grpc_library.StatusCode.OK
UNAVAILABLE = grpc_library.StatusCode.UNAVAILABLE


async def test_tls(tls: Addresses, certificates: Certificates, tenant: Tenant) -> None:
    trusting = grpc_library.ssl_channel_credentials(certificates.read("authority.pem"))
    assert await ping(tls, tenant, trusting) is OK
    distrusting = grpc_library.ssl_channel_credentials(certificates.read("stranger-authority.pem"))
    assert await ping(tls, tenant, distrusting) is UNAVAILABLE
    assert await ping(tls, tenant, None) is UNAVAILABLE


@pytest.mark.parametrize(
    ("name", "status"), [("client", OK), ("stranger", UNAVAILABLE), (None, UNAVAILABLE)]
)
async def test_mutual_tls(
    name: str | None,
    status: grpc_library.StatusCode,
    mutual_tls: Addresses,
    certificates: Certificates,
    tenant: Tenant,
) -> None:
    pair = (certificates.read(f"{name}.key"), certificates.read(f"{name}.pem")) if name else ()
    credentials = grpc_library.ssl_channel_credentials(certificates.read("authority.pem"), *pair)
    assert await ping(mutual_tls, tenant, credentials) is status


async def test_renewed_files_are_used_for_new_connections(
    server: Addresses, certificates: Certificates, tenant: Tenant, tmp_path: Path
) -> None:
    for name in ("stranger.pem", "stranger.key"):
        shutil.copy(certificates[name], tmp_path)
    trusting = grpc_library.ssl_channel_credentials(certificates.read("authority.pem"))
    with RunningService(
        server.database_url,
        grpc_tls_certificate=tmp_path / "stranger.pem",
        grpc_tls_key=tmp_path / "stranger.key",
    ) as service:
        assert await ping(service.addresses, tenant, trusting) is UNAVAILABLE
        shutil.copy(certificates["server.pem"], tmp_path / "stranger.pem")
        shutil.copy(certificates["server.key"], tmp_path / "stranger.key")

        async def is_trusted() -> bool:
            return await ping(service.addresses, tenant, trusting) is OK

        await eventually(is_trusted, "the renewed certificate is shown")


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
@pytest.mark.parametrize(
    "setting", ["grpc_tls_certificate", "grpc_tls_key", "grpc_tls_client_ca", "another key"]
)
async def test_unusable_files_are_a_clear_error(
    setting: str,
    content: bytes | None,
    server: Addresses,
    certificates: Certificates,
    tmp_path: Path,
) -> None:
    wrong = tmp_path / "wrong.pem"
    if content is not None:
        wrong.write_bytes(content)
    files: dict[str, Any] = {
        "grpc_tls_certificate": certificates["server.pem"],
        "grpc_tls_key": certificates["server.key"],
        "grpc_tls_client_ca": certificates["authority.pem"],
    }
    if setting == "another key":
        wrong = files["grpc_tls_key"] = certificates["client.key"]
    else:
        files[setting] = wrong
    refused = pytest.raises(OSError)  # noqa: PT011 - the name is looked for where it stands
    with refused as caught, RunningService(server.database_url, **files):
        pass
    assert str(wrong) in f"{caught.value} {caught.value.filename}"
