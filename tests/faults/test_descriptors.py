"""Descriptors run out: connections are refused, and the process goes on."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.service_process import is_alive, service_on
from tests.support.tenant import event, make_tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

DESCRIPTORS = 256
IDLE_CONNECTIONS = 300  # to each port
HELD_SECONDS = 3.0  # longer than every check of the service needs to come again


@contextlib.contextmanager
def idle_connections(address: str, count: int) -> Iterator[None]:
    host, _, port = address.rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            with contextlib.suppress(OSError):
                connection = socket.create_connection((host, int(port)), timeout=2)
                stack.enter_context(connection)
        yield


async def test_more_idle_connections_than_descriptors_do_not_end_the_service(
    database_url: str,
) -> None:
    tenant = await make_tenant(database_url)
    with service_on(database_url) as service:
        limits = (DESCRIPTORS, DESCRIPTORS)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, limits)
        with contextlib.ExitStack() as stack:
            for address in (service.url.removeprefix("http://"), service.grpc):
                stack.enter_context(idle_connections(address, IDLE_CONNECTIONS))
            end = time.monotonic() + HELD_SECONDS
            await eventually(
                lambda: time.monotonic() > end or not is_alive(service.pid), "held", seconds=10
            )
            assert is_alive(service.pid)

        def is_accepted() -> bool:
            try:
                answer = httpx.post(
                    f"{service.url}/api/v1/ingest/events",
                    json={"events": [event()]},
                    headers={"Authorization": f"Bearer {tenant.key}"},
                )
            except httpx.TransportError:
                return False
            return answer.status_code == 202

        await eventually(is_accepted, "it serves again")
