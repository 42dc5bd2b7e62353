"""Producers as operators list and forget them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core import limits
from core.admin import producers
from core.admin.errors import AdministrationError, NotFoundError
from core.error_codes import StreamReason
from core.errors import StreamError
from core.journal import app_producers
from core.journal.app_producers import MAX_STREAM_AGE, open_stream
from core.journal.producers import ProducerKey
from core.models import StreamPosition
from tests.support.direct_writer import DirectWriter
from tests.support.tenant import Tenant, make_tenant, now_us

pytestmark = pytest.mark.anyio

DAY_US = 86_400_000_000
HOUR_US = DAY_US // 24


def key(tenant: Tenant, producer_id: str) -> ProducerKey:
    """The producer of that id of the tenant's app."""
    return ProducerKey(tenant.organization.id, tenant.app.id, producer_id)


async def test_producers_are_listed_with_their_end(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    other = await tenant.another_app()
    owner, now = tenant.organization.id, now_us()
    async with tenant.in_cell() as cell:
        await open_stream(cell.db, key(tenant, "old"), now - DAY_US * 89)
        await open_stream(cell.db, key(tenant, "gone"), now - DAY_US * 91)
        await open_stream(cell.db, key(other, "new"), now)
        listed = await producers.latest(cell.db, owner, None, now, 10)
        assert [one.producer_id for one in listed] == ["new", "old"]
        assert listed[0].app_slug == other.app.slug
        kept = timedelta(days=limits.PRODUCER_UNUSED_DAYS) + MAX_STREAM_AGE
        assert listed[0].expires_at - listed[0].opened_at == kept
        assert len(await producers.latest(cell.db, owner, None, now, 1)) == 1
        [of_app] = await producers.latest(cell.db, owner, tenant.app.id, now, 10)
        assert of_app.producer_id == "old"


async def test_a_producer_is_named_by_its_app_if_several_have_it(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    other = await tenant.another_app()
    owner, now = tenant.organization.id, now_us()
    async with tenant.in_cell() as cell:
        for app in (tenant, other):
            await open_stream(cell.db, key(app, "p"), now)
        with pytest.raises(NotFoundError, match=f"{other.app.slug}, crm-hub"):
            await producers.find(cell.db, owner, None, "p", now)
        found = await producers.find(cell.db, owner, other.app.id, "p", now)
        assert found.app_id == other.app.id
        for name in ("q", "", "\0"):
            with pytest.raises(NotFoundError, match="producer list"):
                await producers.find(cell.db, owner, None, name, now)


async def test_a_forgotten_producer_begins_anew_and_its_open_stream_ends(
    quota_of_five: DirectWriter,
) -> None:
    tenant, now = quota_of_five.tenant, now_us()
    owner = tenant.organization.id
    async with tenant.in_cell() as cell:
        opened = await open_stream(cell.db, key(tenant, "p"), now - HOUR_US)
        first = StreamPosition("p", opened.epoch, 1)
        await quota_of_five.write(quota_of_five.request(1, position=first))
        found = await producers.find(cell.db, owner, None, "p", now)
        assert (found.sequence, found.accepted) == (1, 1)
        with pytest.raises(AdministrationError, match="--force"):
            await producers.forget(cell, owner, found, now)
        await producers.forget(cell, owner, found, now, in_use=True)

        second = StreamPosition("p", opened.epoch, 2)
        [ended] = await quota_of_five.write(quota_of_five.request(1, position=second))
        assert isinstance(ended, StreamError)
        assert ended.reason is StreamReason.PRODUCER_TAKEN_OVER
        with pytest.raises(NotFoundError):
            await producers.find(cell.db, owner, None, "p", now)
        # The row stays until a stream from before cannot be open any more.
        assert await app_producers.forget_unused(cell.db, now) == 0
        assert await app_producers.forget_unused(cell.db, now + DAY_US - HOUR_US + 1) == 1
        assert (await open_stream(cell.db, key(tenant, "p"), now)).sequence == 0
        [entry] = await (
            await cell.home.execute("SELECT before FROM audit WHERE action = 'producer.forget'")
        ).fetchall()
        assert entry[0] == {"sequence": 1, "accepted": 1}


async def test_a_producer_that_is_opened_meanwhile_is_not_forgotten(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    owner, now = tenant.organization.id, now_us()
    async with tenant.in_cell() as cell:
        await open_stream(cell.db, key(tenant, "p"), now - 2 * DAY_US)
        found = await producers.find(cell.db, owner, None, "p", now)
        await open_stream(cell.db, key(tenant, "p"), now)
        with pytest.raises(AdministrationError, match="just now"):
            await producers.forget(cell, owner, found, now)
        await producers.find(cell.db, owner, None, "p", now)
