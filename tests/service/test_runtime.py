"""What `serve` says when it starts: of its database, and of its addresses."""

from __future__ import annotations

import socket

import psycopg
import pytest
from psycopg import sql

from service.runtime import bring_up_to_date, client_address, http_url
from tests.support.grpc_driver import GrpcDriver
from tests.support.running_service import RunningService
from tests.support.tenant import make_tenant


@pytest.mark.anyio
@pytest.mark.parametrize(("level", "warned"), [("error", True), ("panic", False)])
async def test_a_server_that_logs_statements_is_warned_of(
    level: str, warned: bool, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(
            sql.SQL("ALTER DATABASE {} SET log_min_error_statement = {}").format(
                sql.Identifier(db.info.dbname), level
            )
        )
    await bring_up_to_date(database_url)
    assert ("log_min_error_statement" in caplog.text) is warned


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("localhost", "localhost:80"),
        ("::1", "[::1]:80"),
        ("0.0.0.0", "127.0.0.1:80"),  # noqa: S104
        ("::", "[::1]:80"),
        ("0:0::0", "[::1]:80"),
    ],
)
def test_a_client_can_use_the_address_that_is_told(host: str, told: str) -> None:
    assert client_address(host, 80) == told
    assert http_url(host, 80, has_tls=False) == f"http://{told}"
    assert http_url(host, 80, has_tls=True) == f"https://{told}"


@pytest.mark.anyio
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_an_address_of_ipv6_is_told_so_that_it_can_be_used(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    with RunningService(database_url, grpc="[::1]:0", http="[::1]:0") as service:
        assert service.addresses.http.startswith("http://[::1]:")
        client = GrpcDriver(service.addresses.grpc)
        assert (await client.ping(tenant.key)).code is None
        await client.close()
