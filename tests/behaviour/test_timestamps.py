"""Timestamps: what is taken for one, how it is echoed, and that it is stored to the microsecond."""

from __future__ import annotations

import pytest

from tests.support.driver import Driver
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("given", "echo"),
    [
        ("2026-04-19T12:05:00Z", "2026-04-19T12:05:00Z"),
        ("2026-04-19t12:05:00z", "2026-04-19T12:05:00Z"),
        ("2026-04-19T12:05:00+00:00", "2026-04-19T12:05:00Z"),
        ("2026-04-19T12:05:00-00:00", "2026-04-19T12:05:00Z"),
        ("2026-04-19T14:05:00+02:00", "2026-04-19T12:05:00Z"),
        ("2026-04-19T01:35:00-10:30", "2026-04-19T12:05:00Z"),
        ("2026-04-20T12:04:00+23:59", "2026-04-19T12:05:00Z"),
        ("2025-12-31T23:00:00-01:30", "2026-01-01T00:30:00Z"),
        ("2026-04-19T12:05:00.0Z", "2026-04-19T12:05:00Z"),
        ("2026-04-19T12:05:00.250Z", "2026-04-19T12:05:00.25Z"),
        ("2026-04-19T12:05:00.000001Z", "2026-04-19T12:05:00.000001Z"),
        ("2026-04-19T12:05:00.100000Z", "2026-04-19T12:05:00.1Z"),
        ("2026-04-19T12:05:00.1234569Z", "2026-04-19T12:05:00.123456Z"),
        ("2026-04-19T12:05:00.9999999999999999+00:00", "2026-04-19T12:05:00.999999Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2017-01-01T00:59:60.5+01:00", "2017-01-01T00:00:00Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T01:00:00.000001+01:00", "0001-01-01T00:00:00.000001Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
async def test_timestamps(driver: Driver, tenant: Tenant, given: str, echo: str) -> None:
    reply = await driver.ingest(tenant.key, [event(timestamp=given)])
    assert reply.accepted == [("ticket.resolved", echo)]
    (row,) = await tenant.rows(
        "SELECT to_char(occurred_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US') AS at FROM events "
        "WHERE organization_id = %s",
        tenant.organization.id,
    )
    whole, _, fraction = echo.removesuffix("Z").partition(".")
    assert row["at"] == f"{whole}.{fraction:0<6}"


@pytest.mark.parametrize(
    "given",
    [
        *("", "now", "1776600300", "2026-04-19", "12:05:00Z"),
        *("2026-04-19T12:05:00", "2026-04-19T12:05Z", "2026-04-19 12:05:00Z"),  # offset, seconds, T
        *("2026-04-19T12:05:00 Z", " 2026-04-19T12:05:00Z", "2026-04-19T12:05:00Z\n"),
        *("2026-04-19T12:05:00.Z", "2026-04-19T12:05:00,5Z", "2026-4-19T12:05:00Z"),
        *("20260419T120500Z", "2026-109T12:05:00Z", "2026-W16-7T12:05:00Z"),
        *("+2026-04-19T12:05:00Z", "12026-04-19T12:05:00Z", "-0001-04-19T12:05:00Z"),
        *("2026-02-29T00:00:00Z", "2026-00-10T00:00:00Z", "2026-13-01T00:00:00Z"),
        *("2026-04-31T00:00:00Z", "2026-04-19T24:00:00Z", "2026-04-19T12:60:00Z"),
        *("2026-04-19T12:05:61Z", "2026-04-19T12:05:00+24:00", "2026-04-19T12:05:00+01:60"),
        *("2026-04-19T12:05:00+0200", "2026-04-19T12:05:00+02", "2026-04-19T12:05:00UTC"),
        *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"),
        *("9999-12-31T23:59:60Z", "２026-04-19T12:05:00Z"),
    ],
)
async def test_no_timestamps(driver: Driver, tenant: Tenant, given: str) -> None:
    reply = await driver.ingest(tenant.key, [event(), event(timestamp=given)])
    assert [(one.index, one.code) for one in reply.rejected] == [(1, "invalid_body")]
    assert reply.rejected[0].message.startswith("events[1].timestamp: must be ")


async def test_a_timestamp_with_a_nul_is_no_storable_text(driver: Driver, tenant: Tenant) -> None:
    given = "2026-04-19T12:05:00\0Z"
    reply = await driver.ingest(tenant.key, [event(), event(timestamp=given)])
    assert [(one.index, one.code) for one in reply.rejected] == [(1, "invalid_body")]
    assert reply.rejected[0].message.startswith("events[1].timestamp: must not contain U+0000")
