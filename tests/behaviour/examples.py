"""Values at the edges of the rules, and what several files of this suite ask of replies."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.driver import Driver, Reply
from tests.support.tenant import NOBODY, Tenant, event, snapshot

MAX_JSON_BYTES = 16_384
KEY = "crm-batch-8412"  # an idempotency key

TYPES = ["a.b", "a" * 64, "0--0", "A_b.c-D9"]
NOT_TYPES = [
    *("", "a", "ab", "a" * 65, ".ab", "ab.", "_ab", "ab-", "a b", "a/b", "abc\n", " abc"),
    *("äbc", "a\N{ARABIC-INDIC DIGIT THREE}c", "a\0c"),
]
NAMES = ["x", " ", "x" * 200, "\N{GRINNING FACE}" * 200, "Zoë 'Ω' \"\\\t\u202e\U0010ffff"]
NOT_NAMES = ["", "x" * 201, "\N{GRINNING FACE}" * 201, "nul\0"]

# Each breaks one rule of an event; in the order in which the rules are judged.
BROKEN: dict[str, dict[str, Any]] = {
    "invalid_body": {"duration": -1},
    "missing_actor": {"actor": {"displayName": "Nobody in particular"}},
    "forbidden_event_type": {"eventType": "not.allowed"},
    "worker_not_found": {"actor": {"workerId": NOBODY}},
}


def compact_bytes(value: object) -> int:
    """The size of a value as compact UTF-8 JSON."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def json_of_size(size: int, character: str = "x") -> dict[str, str]:
    """A JSON object of exactly that compact size, made of one character."""
    whole, rest = divmod(size - compact_bytes({"text": ""}), len(character.encode()))
    value = {"text": character * whole + "x" * rest}
    assert compact_bytes(value) == size
    return value


def broken(code: str) -> dict[str, Any]:
    """An event that is rejected with that code."""
    return event(**BROKEN[code])


CALLS: dict[str, Callable[[Driver, str | None], Awaitable[Reply]]] = {
    "ping": lambda driver, key: driver.ping(key),
    "events": lambda driver, key: driver.ingest(key, [event()]),
    "snapshots": lambda driver, key: driver.snapshot(key, snapshot()),
}


async def within_a_second(attempt: Callable[[], Awaitable[Reply]], code: str | None) -> Reply:
    """Try until the reply has that code; fails if an attempt after a second has another one."""
    deadline = time.monotonic() + 1
    while True:
        began = time.monotonic()
        if (reply := await attempt()).code == code:
            return reply
        assert began < deadline, f"still {reply.code} after a second, not {code}"
        await asyncio.sleep(0.01)


async def send(
    driver: Driver, tenant: Tenant, endpoint: str, key: str | None = KEY, **members: Any
) -> Reply:
    """One item to an endpoint."""
    if endpoint == "events":
        return await driver.ingest(tenant.key, [event(**members)], key)
    return await driver.snapshot(tenant.key, snapshot(**members), key)


async def written(tenant: Tenant) -> int:
    """How many events and snapshots are stored; as many are charged."""
    count = len(await tenant.events()) + len(await tenant.history())
    assert await tenant.used() == count
    return count
