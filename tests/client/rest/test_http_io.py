"""Options that cannot work, and a client in a process that was forked."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.client.rest.conftest import Connect
from tests.support.running_service import Addresses
from tests.support.tenant import UNKNOWN_KEY, Tenant
from wepeople_ingest_client import Client

pytestmark = pytest.mark.anyio


async def test_two_processes_do_not_share_connections(server: Addresses, tenant: Tenant) -> None:
    with Client(server.http, tenant.key) as client:
        await asyncio.to_thread(client.ping)
        child = os.fork()
        if not child:
            os._exit(is_refused(client))
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 1
        await asyncio.to_thread(client.ping)


def is_refused(client: Client) -> bool:
    try:
        client.ping()
    except RuntimeError as error:
        return "before a fork" in str(error)
    return False


async def test_a_process_may_use_what_was_only_made_before_it(
    server: Addresses, tenant: Tenant
) -> None:
    with Client(server.http, tenant.key) as client:
        child = os.fork()
        if not child:
            os._exit(client.ping().organization_id == tenant.organization_id)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 1


@pytest.mark.parametrize(
    ("base_url", "key", "options"),
    [
        ("ftp://127.0.0.1", UNKNOWN_KEY, {}),
        ("127.0.0.1:8080", UNKNOWN_KEY, {}),
        ("http://user:password@127.0.0.1", UNKNOWN_KEY, {}),
        ("http://127.0.0.1?password=1", UNKNOWN_KEY, {}),
        ("http://127.0.0.1#top", UNKNOWN_KEY, {}),
        ("http://[::1", UNKNOWN_KEY, {}),
        ("http://127.0.0.1", f"{UNKNOWN_KEY}\n", {}),
        ("http://127.0.0.1", "", {}),
        ("http://127.0.0.1", "schlüssel", {}),
        ("http://127.0.0.1", UNKNOWN_KEY, {"timeout": 0}),
        ("http://127.0.0.1", UNKNOWN_KEY, {"timeout": 61}),
    ],
)
async def test_impossible_options(
    connect: Connect, base_url: str, key: str, options: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match=r"^(base_url|key|timeout): ") as caught:
        connect(base_url, key, **options)
    assert "password" not in str(caught.value)
    assert not key or key not in str(caught.value)
