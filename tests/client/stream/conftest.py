"""Producers on the shared service, and servers that follow a script."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from tests.client.stream.scripted_server import ScriptedServer, StartScripted
from tests.support.tenant import Tenant, event
from wepeople_ingest_client import StreamProducer

_ids = itertools.count(1)


def producer_for(tenant: Tenant, target: str, **options: Any) -> StreamProducer:
    """A producer with an id of its own, which gives up before the test would."""
    options.setdefault("producer_id", f"producer-{next(_ids)}")
    options.setdefault("give_up_after_seconds", 20)
    return StreamProducer(target, tenant.key, **options)


def numbered(number: int, **members: Any) -> dict[str, Any]:
    """An event that can be told from others by its metadata."""
    return event(metadata={"n": number}, **members)


async def stored_numbers(tenant: Tenant) -> Counter[int]:
    """The numbers of the stored events, and how often each is stored."""
    return Counter(json.loads(row["metadata"])["n"] for row in await tenant.events())


def each_once(count: int) -> Counter[int]:
    """The numbers from 0, each stored once."""
    return Counter(range(count))


async def still_waiting(awaitable: Awaitable[Any], seconds: float = 0.3) -> asyncio.Task[Any]:
    """Start it and see that it does not end by itself; returns its task."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(seconds)
    assert not task.done()
    return task


@pytest.fixture
async def scripted() -> AsyncIterator[StartScripted]:
    """Starts scripted servers; returns each with its address."""
    servers = []

    async def start(*script: status_pb2.Status) -> tuple[ScriptedServer, str]:
        scripted_server = ScriptedServer(list(script))
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((scripted_server.handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return scripted_server, f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(0)
