"""HTTP with TLS: what it keeps of HTTP without, and how many may shake hands."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from core.limits import MAX_BODY_BYTES
from core.tls_files import TlsFileError
from http_api import accepting
from tests.support.certificates import Certificates, needs_openssl
from tests.support.running_service import Addresses, RunningService
from tests.support.tenant import Tenant, event
from tests.support.waiting import eventually

pytestmark = [pytest.mark.anyio, needs_openssl]

EVENTS = "/api/v1/ingest/events"


@pytest.fixture(scope="module")
def tls(server: Addresses, certificates: Certificates) -> Iterator[Addresses]:
    """A service that shows a certificate."""
    with serving(server, certificates.folder) as service:
        yield service.addresses


def serving(server: Addresses, folder: Path) -> RunningService:
    return RunningService(
        server.database_url,
        http_tls_certificate=folder / "server.pem",
        http_tls_key=folder / "server.key",
    )


def trusting(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificates["authority.pem"])


def client(addresses: Addresses, certificates: Certificates, tenant: Tenant) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=addresses.http,
        verify=trusting(certificates),
        headers={"authorization": f"Bearer {tenant.key}"},
    )


async def test_small_and_large_bodies_are_stored(
    tls: Addresses, certificates: Certificates, tenant: Tenant
) -> None:
    assert tls.http.startswith("https://")
    large = {"events": [event(metadata={"text": "x" * 16_000}) for _ in range(60)]}
    async with client(tls, certificates, tenant) as http:
        for body, stored in (({"events": [event()]}, 1), (large, 60)):
            answer = await http.post(EVENTS, json=body)
            assert (answer.status_code, answer.json()["accepted"]) == (202, stored)
        refused = await http.post(EVENTS, content=b"x" * (MAX_BODY_BYTES + 1))
        assert refused.json()["error"]["docsUrl"].startswith(f"{tls.http}/developers/reference#")
        assert refused.status_code == 413


async def test_whoever_does_not_trust_it_or_speaks_no_tls_is_not_served(tls: Addresses) -> None:
    async with httpx.AsyncClient(verify=ssl.create_default_context()) as http:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await http.get(tls.http)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await http.get(tls.http.replace("https://", "http://"))


async def test_a_renewed_certificate_is_used_for_new_connections(
    server: Addresses, certificates: Certificates, tenant: Tenant, tmp_path: Path
) -> None:
    for suffix in ("pem", "key"):
        shutil.copy(certificates[f"stranger.{suffix}"], tmp_path / f"server.{suffix}")
    with serving(server, tmp_path) as service:
        async with client(service.addresses, certificates, tenant) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get("/healthz")
            for suffix in ("pem", "key"):
                shutil.copy(certificates[f"server.{suffix}"], tmp_path)

            async def is_trusted() -> bool:
                try:
                    return (await http.get("/healthz")).is_success
                except httpx.ConnectError:
                    return False

            await eventually(is_trusted, "the renewed certificate is shown")


async def test_a_file_that_cannot_be_used_ends_the_start(server: Addresses, tmp_path: Path) -> None:
    with pytest.raises(TlsFileError, match=r"server\.pem"), serving(server, tmp_path):
        pass


async def test_many_who_shake_no_hands_are_bounded_and_keep_nobody_out(
    tls: Addresses,
    certificates: Certificates,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "MAX_HANDSHAKES", 8)
    host, _, port = tls.http.removeprefix("https://").rpartition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(40)]
    ended = [asyncio.create_task(reader.read()) for reader, _ in silent]

    def has_bounded() -> bool:
        return sum(one.done() for one in ended) == 40 - 8

    await eventually(has_bounded, "the oldest give way")
    assert [one.done() for one in ended] == [True] * 32 + [False] * 8
    async with client(tls, certificates, tenant) as http:
        assert (await http.get("/api/v1/ingest/ping")).status_code == 200
    for _, writer in silent:
        writer.close()
    await asyncio.gather(*ended, return_exceptions=True)


async def test_a_client_that_sends_half_a_body_and_ends_leaves_nothing(
    tls: Addresses, certificates: Certificates, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = tls.http.removeprefix("https://").rpartition(":")
    reader, writer = await asyncio.open_connection(
        host, int(port), ssl=trusting(certificates), server_hostname="localhost"
    )
    writer.write(
        f"POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {tenant.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{".encode()
    )
    await writer.drain()
    writer.close()
    assert await reader.read() == b""
    assert not [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")]
