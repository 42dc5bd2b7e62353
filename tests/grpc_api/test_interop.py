"""The tools people have: grpcurl, ghz and `buf curl`, with nothing but the address and a key."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.running_service import Addresses
from tests.support.tenant import Tenant

ROOT = Path(__file__).parents[2]
SERVICE = "wepeople.ingest.v1.IngestService"


def _tool(name: str) -> str | None:
    beside = Path(sys.executable).parent
    places = (beside, beside.parent / "tools")
    found = next((place / name for place in places if (place / name).exists()), None)
    return str(found) if found else shutil.which(name)


GRPCURL, GHZ, BUF = _tool("grpcurl"), _tool("ghz"), _tool("buf")
pytestmark = pytest.mark.anyio
needs_grpcurl = pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
needs_ghz = pytest.mark.skipif(GHZ is None, reason="ghz is not installed")
needs_buf = pytest.mark.skipif(BUF is None, reason="buf is not installed")

BATCH = json.dumps(
    {
        "events": [
            {
                "event_type": "ticket.resolved",
                "category": "project_management",
                "actor": {"external_id": "crm-user-42"},
                "duration_seconds": 240,
                "metadata": {"ticket_id": "SUP-431", "points": 3},
            }
        ]
    }
)
STREAM = "\n".join(
    json.dumps(message)
    for message in (
        {"open": {"producer_id": "typed-in"}},
        *({"batch": {"sequence": sequence, **json.loads(BATCH)}} for sequence in (1, 2, 1)),
    )
)


def run(*command: str | None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end."""
    return subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )


def documents(text: str) -> list[Any]:
    """The JSON documents that stand one after the other."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while position < len(text.rstrip()):
        document, position = decoder.raw_decode(text, position)
        found.append(document)
        position += len(text[position:]) - len(text[position:].lstrip())
    return found


def grpcurl(
    server: Addresses, what: str, *, key: str | None = None, data: str | None = None
) -> subprocess.CompletedProcess[str]:
    """As it is typed; more than one message comes from stdin."""
    credential = () if key is None else ("-H", f"authorization: Bearer {key}")
    if data is None:
        return run(GRPCURL, "-plaintext", *credential, server.grpc, *what.split())
    typed = ("-d", "@" if "\n" in data else data)
    return run(GRPCURL, "-plaintext", *credential, *typed, server.grpc, what, stdin=data)


def buf_curl(
    server: Addresses, method: str, *options: str, key: str | None = None, data: str | None = None
) -> subprocess.CompletedProcess[str]:
    """As it is typed; more than one message comes from stdin."""
    credential = () if key is None else ("-H", f"authorization: Bearer {key}")
    typed = () if data is None else ("-d", "@-" if "\n" in data else data)
    url = f"http://{server.grpc}/{method}".rstrip("/")
    return run(BUF, "curl", "--protocol", "grpc", *options, *credential, *typed, url, stdin=data)


async def _stored_as_typed(tenant: Tenant) -> None:
    [stored] = await tenant.events()
    assert stored["duration_seconds"] == 240
    assert json.loads(stored["metadata"]) == {"ticket_id": "SUP-431", "points": 3}
    assert '"points":3' in stored["metadata"].replace("3.0", "?")


@needs_grpcurl
async def test_grpcurl_lists_and_describes(server: Addresses) -> None:
    assert SERVICE in grpcurl(server, "list").stdout.split()
    assert f"{SERVICE}.StreamEvents" in grpcurl(server, f"list {SERVICE}").stdout.split()
    assert "rpc IngestEvents" in grpcurl(server, f"describe {SERVICE}").stdout
    message = grpcurl(server, "describe wepeople.ingest.v1.IngestEvent").stdout
    assert ".google.protobuf.Struct metadata = 6;" in message
    assert "// Seconds, 0 to 86400." in message
    for symbol, kind in {
        f"{SERVICE}.IngestEvents": "a method",
        "wepeople.ingest.v1.IngestEvent.metadata": "a field",
        "wepeople.ingest.v1.StreamEventsRequest.message": "a one-of",
        "google.protobuf.NullValue.NULL_VALUE": "an enum value",
        "google.protobuf.Struct.FieldsEntry": "the entry type",
    }.items():
        described = grpcurl(server, f"describe {symbol}")
        assert f"{symbol} is {kind}" in described.stdout, described.stderr


@needs_grpcurl
async def test_grpcurl_sends_what_a_person_types(server: Addresses, tenant: Tenant) -> None:
    ping = grpcurl(server, f"{SERVICE}/Ping", key=tenant.key)
    assert documents(ping.stdout)[0]["organization_id"] == tenant.organization_id
    sent = grpcurl(server, f"{SERVICE}/IngestEvents", key=tenant.key, data=BATCH)
    assert documents(sent.stdout)[0]["accepted"][0]["event_type"] == "ticket.resolved", sent.stderr
    await _stored_as_typed(tenant)


@needs_grpcurl
async def test_grpcurl_streams_from_stdin(server: Addresses, tenant: Tenant) -> None:
    answered = grpcurl(server, f"{SERVICE}/StreamEvents", key=tenant.key, data=STREAM)
    opened, *acks = documents(answered.stdout)
    assert opened == {"opened": {"max_in_flight": 32}}
    assert [(ack["ack"]["sequence"], ack["ack"].get("duplicate")) for ack in acks] == [
        ("1", None),
        ("2", None),
        ("1", True),
    ]
    assert len(await tenant.events()) == 2


@needs_grpcurl
async def test_grpcurl_shows_errors_a_person_can_read(server: Addresses, tenant: Tenant) -> None:
    without_key = grpcurl(server, f"{SERVICE}/Ping")
    assert without_key.returncode != 0
    assert "Code: Unauthenticated" in without_key.stderr
    assert '"reason": "MISSING_AUTHORIZATION"' in without_key.stderr
    assert "/developers/reference#missing_authorization" in without_key.stderr
    wrong = grpcurl(
        server, f"{SERVICE}/IngestEvents", key=tenant.key, data=BATCH.replace("240", "-1")
    )
    assert "Message: events[0].duration: must be at least 0" in wrong.stderr
    assert '"field": "events[0].duration"' in wrong.stderr
    assert '"rejected"' in wrong.stderr


@needs_ghz
@pytest.mark.parametrize("method", ["Ping", "IngestEvents"])
async def test_ghz_calls_by_reflection(server: Addresses, tenant: Tenant, method: str) -> None:
    metadata = json.dumps({"authorization": f"Bearer {tenant.key}"})
    called = run(
        *(GHZ, "--insecure", "--call", f"{SERVICE}.{method}", "--metadata", metadata),
        *("--data", BATCH if method == "IngestEvents" else "{}"),
        *("--total", "10", "--concurrency", "2", "--format", "json", server.grpc),
    )
    [report] = documents(called.stdout)
    assert report["statusCodeDistribution"] == {"OK": 10}, called.stderr
    assert len(await tenant.events()) == (10 if method == "IngestEvents" else 0)


@needs_buf
async def test_buf_curl_lists_methods(server: Addresses) -> None:
    listed = buf_curl(server, "", "--list-methods").stdout.split()
    assert f"{SERVICE}/IngestEvents" in listed
    assert "grpc.health.v1.Health/Check" in listed


@needs_buf
@pytest.mark.parametrize("options", [(), ("--schema", "proto")], ids=["reflection", "schema"])
async def test_buf_curl_sends_what_a_person_types(
    options: tuple[str, ...], server: Addresses, tenant: Tenant
) -> None:
    ping = buf_curl(server, f"{SERVICE}/Ping", *options, key=tenant.key)
    assert documents(ping.stdout)[0]["organizationId"] == tenant.organization_id, ping.stderr
    sent = buf_curl(server, f"{SERVICE}/IngestEvents", *options, key=tenant.key, data=BATCH)
    assert documents(sent.stdout)[0]["accepted"][0]["eventType"] == "ticket.resolved", sent.stderr
    await _stored_as_typed(tenant)


@needs_buf
async def test_buf_curl_streams_from_stdin(server: Addresses, tenant: Tenant) -> None:
    answered = buf_curl(server, f"{SERVICE}/StreamEvents", key=tenant.key, data=STREAM)
    opened, *acks = documents(answered.stdout)
    assert opened == {"opened": {"maxInFlight": 32}}
    assert [ack["ack"].get("duplicate") for ack in acks] == [None, None, True]
    assert len(await tenant.events()) == 2


@needs_buf
async def test_buf_curl_shows_errors_a_person_can_read(server: Addresses, tenant: Tenant) -> None:
    wrong = buf_curl(
        server, f"{SERVICE}/IngestEvents", key=tenant.key, data=BATCH.replace("240", "-1")
    )
    assert wrong.returncode != 0
    [error] = documents(wrong.stderr)
    assert error["code"] == "invalid_argument"
    assert error["message"] == "events[0].duration: must be at least 0"
    assert {detail["type"] for detail in error["details"]} == {
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
        "wepeople.ingest.v1.IngestEventsResponse",
    }
