"""The plan of a run at rest: one request at a time, beside the parts that it cannot do without.

A stored event is a request and a commit. So its latency is compared with that of a ping, which is
as a request but for storing, and of an INSERT that is committed, which is storing alone. Requests
that were due while one was under way are left out: one that has waited was not alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from service.bench.load import CallLoad, HttpLoad, InsertLoad, Load
from service.bench.rows import Destination, Measurement, Row, grpc_server, http, http_url, unary

REQUESTS_PER_SECOND: Final = 200.0
PING_PATH: Final = "/api/v1/ingest/ping"
PING_METHOD: Final = "wepeople.ingest.v1.IngestService/Ping"


def at_rest(idempotency_keys: bool, *, yardsticks: bool) -> list[Measurement]:
    """An event over each protocol, with ``yardsticks`` beside a ping and an INSERT."""
    by_http = http(
        "rest_http",
        "HTTP, an event at a time",
        None,
        batch=1,
        connections=1,
        rate=REQUESTS_PER_SECOND,
        idempotency_keys=idempotency_keys,
        skip_missed=True,
    )
    by_grpc = unary(
        "rest_grpc",
        "gRPC, an event at a time",
        None,
        batch=1,
        calls=1,
        rate=REQUESTS_PER_SECOND,
        idempotency_keys=idempotency_keys,
        skip_missed=True,
    )
    rows = [by_http, by_grpc]
    if yardsticks:
        ping_http = Row("ping_http", "HTTP, a ping at a time", _http_ping, "requests")
        ping_grpc = Row("ping_grpc", "gRPC, a ping at a time", _grpc_ping, "requests")
        insert = Row("insert", "an INSERT by psycopg at a time, committed", _insert, "requests")
        rows = [
            insert,
            ping_http,
            replace(by_http, parts=(ping_http.name, insert.name)),
            ping_grpc,
            replace(by_grpc, parts=(ping_grpc.name, insert.name)),
        ]
    return [Measurement((row,)) for row in rows]


def _authorization(destination: Destination) -> dict[str, str]:
    return {"authorization": f"Bearer {destination.tenant.key}"}


def _http_ping(destination: Destination, _found: Mapping[str, float]) -> Load:
    url, headers = http_url(destination) + PING_PATH, _authorization(destination)
    return HttpLoad(url, headers, "", 1, 1, REQUESTS_PER_SECOND, "GET", skip_missed=True)


def _grpc_ping(destination: Destination, _found: Mapping[str, float]) -> Load:
    return CallLoad(
        grpc_server(destination),
        destination.target.tls,
        PING_METHOD,
        _authorization(destination),
        "{}",
        None,
        1,
        1,
        REQUESTS_PER_SECOND,
        skip_missed=True,
    )


def _insert(destination: Destination, _found: Mapping[str, float]) -> Load:
    return InsertLoad(destination.tenant.storage, REQUESTS_PER_SECOND)
