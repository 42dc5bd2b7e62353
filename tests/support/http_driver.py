"""The behaviour suite's client of the REST API. It checks the envelope of every answer it sees."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Sequence
from typing import Any, Final

import httpx

from tests.support.driver import JsonObject, Rejected, Reply

# Written out again on purpose: the reference page's table, not the code's.
STATUS = {
    "missing_authorization": 401,
    "invalid_key": 401,
    "key_revoked": 401,
    "key_expired": 401,
    "plan_disabled": 402,
    "quota_exceeded": 402,
    "rate_limited": 429,
    "forbidden_event_type": 403,
    "invalid_body": 400,
    "batch_too_large": 413,
    "missing_actor": 400,
    "worker_not_found": 404,
    "internal_error": 500,
}


MAX_CONNECTIONS: Final = 128


class _Connections(httpx.AsyncBaseTransport):
    """Connections of which a request takes the one that was used last, however many there are.

    The pool of httpx looks at each of them for each request, and at each idle one for each idle
    one: with 64 that takes most of the CPU time of a small request and its answer.
    """

    def __init__(self) -> None:
        # A TLS context that is never used, for the default one takes a while to load.
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._all: list[httpx.AsyncHTTPTransport] = []
        self._idle: list[httpx.AsyncHTTPTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request once the whole response is there."""
        async with self._places:
            connection = self._idle.pop() if self._idle else self._add()
            try:
                response = await connection.handle_async_request(request)
                await response.aread()
            finally:
                self._idle.append(connection)
        return response

    def _add(self) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=1)
        connection = httpx.AsyncHTTPTransport(verify=self._tls, limits=limits)
        self._all.append(connection)
        return connection

    async def aclose(self) -> None:
        """Close all of them."""
        for connection in self._all:
            await connection.aclose()


class HttpDriver:
    """Speaks JSON over HTTP/1.1, with many connections."""

    name = "http"

    def __init__(self, base_url: str) -> None:
        self.client = httpx.AsyncClient(base_url=base_url, timeout=30, transport=_Connections())

    async def ping(self, key: str | None) -> Reply:
        """GET /api/v1/ingest/ping."""
        response = await self.client.get("/api/v1/ingest/ping", headers=_headers(key, None))
        return reply(response)

    async def ingest(
        self,
        key: str | None,
        events: Sequence[JsonObject],
        idempotency_key: str | None = None,
    ) -> Reply:
        """POST /api/v1/ingest/events."""
        return await self.post("events", key, {"events": events}, idempotency_key)

    async def snapshot(
        self, key: str | None, snapshot: JsonObject, idempotency_key: str | None = None
    ) -> Reply:
        """POST /api/v1/ingest/snapshots."""
        return await self.post("snapshots", key, snapshot, idempotency_key)

    async def post(
        self, endpoint: str, key: str | None, body: object, idempotency_key: str | None = None
    ) -> Reply:
        """Post a body, as JSON, or as it is if it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = _headers(key, idempotency_key) | {"Content-Type": "application/json"}
        response = await self.client.post(
            f"/api/v1/ingest/{endpoint}", content=content, headers=headers
        )
        return reply(response)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()


def _headers(key: str | None, idempotency_key: str | None) -> dict[str, str]:
    headers = {}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    return headers


def reply(response: httpx.Response) -> Reply:
    """Check what contract section 3 promises of every answer, and take it apart."""
    headers = response.headers
    assert headers["content-type"] == "application/json", response.text
    assert headers["x-api-version"] == "2026-04-01"
    body: dict[str, Any] = response.json()
    replayed = headers.get("idempotency-replayed") == "true"
    results = body.get("results", {"accepted": [], "rejected": []})
    common = {
        "accepted": [(one["eventType"], one["timestamp"]) for one in results["accepted"]],
        "rejected": [
            Rejected(one["index"], one["code"], one["message"]) for one in results["rejected"]
        ],
        "body": body,
        "replayed": replayed,
        "rate_limit": _integer(headers.get("x-ratelimit-limit")),
        "rate_remaining": _integer(headers.get("x-ratelimit-remaining")),
        "retry_after_seconds": _integer(headers.get("retry-after")),
        "answer": (response.status_code, response.content),
    }
    if "results" in body:
        assert body["accepted"] == len(results["accepted"])
        assert body["rejected"] == len(results["rejected"])
        assert body["batchLimit"] == 500
    error = body.get("error")
    if error is None:
        request_id = body.get("requestId", headers["x-request-id"])
        assert request_id == headers["x-request-id"]
        if "results" in body:
            assert response.status_code == (207 if results["rejected"] else 202)
        return Reply(code=None, request_id=request_id, **common)
    assert error["requestId"] == headers["x-request-id"]
    assert error["docsUrl"].endswith(f"/developers/reference#{error['code']}")
    assert response.status_code == STATUS[error["code"]]
    assert (headers.get("www-authenticate") == "Bearer") == (response.status_code == 401)
    if response.status_code == 429:
        assert int(headers["retry-after"]) >= 1
    return Reply(
        code=error["code"],
        request_id=error["requestId"],
        message=error["message"],
        docs_url=error["docsUrl"],
        **common,
    )


def _integer(value: str | None) -> int | None:
    return None if value is None else int(value)
