"""Floods of requests: valid ones, and those that are only refused."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Final

from grpc_api.pb import ingest_pb2 as pb
from tests.pressure.http2 import Calls, call_headers, message
from tests.pressure.pressure import Tally, Target, pressure
from tests.pressure.wire import EVENTS, Caller, Connection, batch, get, head, keep_open, post
from tests.support.grpc_driver import event_message
from tests.support.raw_http import PING
from tests.support.tenant import UNKNOWN_KEY, event

CALLERS: Final = 256
STRANGERS: Final = 1_500
BULK_CALLERS: Final = 1_024
CHANNELS: Final = 16

DEFAULT_RATES: Final = {"key_requests_per_second": None, "requests_per_second": None}


async def _flood(target: Target, tally: Tally, count: int, request: bytes) -> None:
    await keep_open(target.http, count, lambda _: Caller(tally, lambda: request), tally)


@pressure(tenant=DEFAULT_RATES)
async def key_at_its_limit(target: Target, tally: Tally) -> None:
    """A key at its 60/s limit over 256 connections: almost all is answered 429."""
    request = post(target.key, batch("limit", 1), EVENTS)
    make = lambda _: Caller(tally, lambda: request, "limit", 1)  # noqa: E731
    await keep_open(target.http, CALLERS, make, tally)


@pressure()
async def unknown_key(target: Target, tally: Tally) -> None:
    """One key that nobody has, over 256 connections."""
    await _flood(target, tally, CALLERS, post(UNKNOWN_KEY, batch("unknown", 1), EVENTS))


@pressure()
async def made_up_keys(target: Target, tally: Tally) -> None:
    """Keys that nobody has, each another one, over 3,500 connections."""
    body = batch("made up", 1)

    def request() -> bytes:
        return post(f"wp_live_{secrets.token_hex(16)}", body, EVENTS)

    await keep_open(target.http, 3_500, lambda _: Caller(tally, request), tally)


@pressure()
async def no_key(target: Target, tally: Tally) -> None:
    """Requests without a credential over 256 connections."""
    await _flood(target, tally, CALLERS, post(None, batch("none", 1), EVENTS))


@pressure()
async def wrong_method(target: Target, tally: Tally) -> None:
    """The ping endpoint with a method that it does not have, over 1,500 connections."""
    await _flood(target, tally, STRANGERS, head(None, "DELETE", PING, Content_Type=None))


@pressure()
async def single_events(target: Target, tally: Tally) -> None:
    """Valid batches of one event over 256 connections, as fast as they are answered."""

    def make(number: int) -> Connection:
        label = f"single-{number}"
        return Caller(tally, partial(post, target.key, batch(label, 1), EVENTS), label, 1)

    await keep_open(target.http, CALLERS, make, tally)


@pressure()
async def full_batches(target: Target, tally: Tally) -> None:
    """Batches of 500 events of one tenant over 1,024 connections."""
    requests = [post(target.key, batch(f"full-{n}", 500), EVENTS) for n in range(BULK_CALLERS)]

    def make(number: int) -> Connection:
        return Caller(tally, lambda: requests[number], f"full-{number}", 500)

    await keep_open(target.http, BULK_CALLERS, make, tally)


@pressure()
async def healthz(target: Target, tally: Tally) -> None:
    """/healthz over 1,500 connections."""
    await _flood(target, tally, STRANGERS, get("/healthz"))


@pressure()
async def readyz(target: Target, tally: Tally) -> None:
    """/readyz over 1,500 connections."""
    await _flood(target, tally, STRANGERS, get("/readyz"))


@pressure()
async def metrics(target: Target, tally: Tally) -> None:
    """/metrics over 1,500 connections."""
    await _flood(target, tally, STRANGERS, get("/metrics"))


class Abandoned(Connection):
    """Hangs up as soon as its request is on its way."""

    def __init__(self, request: bytes) -> None:
        super().__init__()
        self._request = request

    def begin(self) -> None:
        """Send it, and be gone in the next turn but one."""
        self.transport.write(self._request)
        self.transport.close()


async def _abandon(target: Target, tally: Tally, path: str) -> None:
    request = get(path)
    await keep_open(target.http, STRANGERS, lambda _: Abandoned(request), tally)


@pressure(silent=True)
async def healthz_abandoned(target: Target, tally: Tally) -> None:
    """/healthz by clients that do not wait for the answer."""
    await _abandon(target, tally, "/healthz")


@pressure(silent=True)
async def readyz_abandoned(target: Target, tally: Tally) -> None:
    """/readyz by clients that do not wait for the answer."""
    await _abandon(target, tally, "/readyz")


@pressure(silent=True)
async def metrics_abandoned(target: Target, tally: Tally) -> None:
    """/metrics by clients that do not wait for the answer."""
    await _abandon(target, tally, "/metrics")


async def _calls(target: Target, tally: Tally, key: str | None) -> None:
    request = pb.IngestEventsRequest(events=[event_message(event(metadata={"batch": "calls"}))])
    headers, data = call_headers("IngestEvents", key), message(request.SerializeToString())

    def make(_: int) -> Connection:
        return Calls(tally.answers, CALLERS // CHANNELS, headers, data)

    await keep_open(target.grpc, CHANNELS, make, tally)


@pressure(tenant=DEFAULT_RATES)
async def grpc_key_at_its_limit(target: Target, tally: Tally) -> None:
    """A key at its 60/s limit by 256 calls at a time on 16 connections."""
    await _calls(target, tally, target.key)


@pressure()
async def grpc_unknown_key(target: Target, tally: Tally) -> None:
    """One key that nobody has, by 256 calls at a time on 16 connections."""
    await _calls(target, tally, UNKNOWN_KEY)
