"""Sessions that are kept between looks into the shared database."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, make_tenant


@pytest.fixture
def tenant(server: Addresses) -> Tenant:
    return asyncio.run(make_tenant(server.database_url))


def backend(tenant: Tenant) -> int:
    """The process of the session that a look has, in an event loop of its own."""
    (row,) = asyncio.run(tenant.rows("SELECT pg_backend_pid() AS pid"))
    return int(row["pid"])


def test_a_session_serves_one_look_after_the_other(tenant: Tenant) -> None:
    assert backend(tenant) == backend(tenant)


async def two_at_once(tenant: Tenant) -> set[int]:
    query = "SELECT pg_backend_pid() AS pid, pg_sleep(0.05)"
    return {row["pid"] for (row,) in await asyncio.gather(tenant.rows(query), tenant.rows(query))}


def test_looks_at_once_have_a_session_each(tenant: Tenant) -> None:
    assert len(asyncio.run(two_at_once(tenant))) == 2


def test_a_session_that_was_ended_is_not_used_again(tenant: Tenant) -> None:
    ended = backend(tenant)
    with psycopg.connect(tenant.database_url, autocommit=True) as db:
        db.execute("SELECT pg_terminate_backend(%s, 10000)", (ended,))
        assert backend(tenant) != ended


def test_a_session_in_which_a_query_failed_is_not_used_again(tenant: Tenant) -> None:
    before = backend(tenant)
    with pytest.raises(psycopg.errors.DivisionByZero):
        asyncio.run(tenant.rows("SELECT 1 / 0"))
    assert backend(tenant) != before


def test_a_database_of_its_own_keeps_none(database_url: str) -> None:
    tenant = asyncio.run(make_tenant(database_url))
    assert backend(tenant) != backend(tenant)
