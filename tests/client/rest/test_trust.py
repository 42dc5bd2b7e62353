"""TLS of the clients: the certificates that they accept, and the one that they present."""

from __future__ import annotations

import ssl

import pytest

from tests.client.rest.conftest import Connect
from tests.support.certificates import Certificates, needs_openssl
from tests.support.http_proxy import HttpProxy
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant
from wepeople_ingest_client import NoAnswerError, Retry

pytestmark = [pytest.mark.anyio, needs_openssl]


def server_context(certificates: Certificates, name: str) -> ssl.SSLContext:
    """A server that presents the pair of that name, and wants a certificate of its clients."""
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=certificates["authority.pem"]
    )
    context.load_cert_chain(certificates[f"{name}.pem"], certificates[f"{name}.key"])
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificates["authority.pem"])
    context.load_cert_chain(certificates["client.pem"], certificates["client.key"])
    return context


async def test_own_authority_and_client_certificate(
    connect: Connect, server: Addresses, tenant: Tenant, certificates: Certificates
) -> None:
    async with HttpProxy(server.http, tls=server_context(certificates, "server")) as proxy:
        transport = connect.transport(verify=client_context(certificates))
        client = connect(proxy.url, tenant.key, transport=transport)
        assert (await client.ping()).app.slug == "crm-hub"


@pytest.mark.parametrize("name", ["stranger", "expired", "elsewhere"])
async def test_certificate_that_is_not_accepted_is_final(
    connect: Connect, server: Addresses, certificates: Certificates, name: str
) -> None:
    async with HttpProxy(server.http, tls=server_context(certificates, name)) as proxy:
        client = connect(
            proxy.url, "k", transport=connect.transport(verify=client_context(certificates))
        )
        with pytest.raises(NoAnswerError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await client.ping()
    assert caught.value.retry is Retry.NEVER
