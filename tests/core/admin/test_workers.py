"""Workers, as operators create and find them."""

from __future__ import annotations

from uuid import UUID

import pytest

from core import ids
from core.admin import workers
from core.admin.cell_sessions import at_home
from core.admin.errors import (
    AlreadyExistsError,
    InvalidValueError,
    NotFoundError,
)
from core.admin.workers import Link
from tests.support.tenant import Tenant, make_tenant, now_us

pytestmark = pytest.mark.anyio


async def link(tenant: Tenant, external_id: str, worker_id: UUID) -> None:
    await tenant.rows(
        "INSERT INTO worker_links VALUES (%s, %s, %s, %s)",
        *(tenant.organization.id, tenant.app.id, external_id, worker_id),
    )


async def test_a_worker_is_found_by_id_e_mail_or_external_id(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    organization = tenant.organization.id
    async with await tenant.connect() as db:
        zoe = await workers.create(at_home(db), organization, "Zoe", "Zoe@Example.org", now_us())
        alex = await workers.create(at_home(db), organization, "Alex", None, now_us())
        await link(tenant, "crm-1", zoe.id)
        for given in (ids.text(ids.WORKER, zoe.id), "zoe@example.ORG", "crm-1"):
            found = await workers.find(db, organization, given)
            assert (found.id, found.email) == (zoe.id, "Zoe@Example.org")
            assert found.links == (Link("crm-hub", "crm-1"),)
        everybody = await workers.of_organization(db, organization)
        assert [worker.id for worker in everybody] == [alex.id, zoe.id]


async def test_an_external_id_of_several_workers_names_none(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    other = await tenant.another_app()
    async with await tenant.connect() as db:
        for app, name in ((tenant, "Alex"), (other, "Zoe")):
            worker = await workers.create(at_home(db), tenant.organization.id, name, None, now_us())
            await link(app, "1", worker.id)
        with pytest.raises(NotFoundError, match=r"\(Alex\), .*\(Zoe\)"):
            await workers.find(db, tenant.organization.id, "1")


async def test_an_organization_s_workers_are_its_own(database_url: str) -> None:
    tenant, other = await make_tenant(database_url), await make_tenant(database_url)
    async with await tenant.connect() as db:
        for owner in (tenant, other):
            await workers.create(
                at_home(db), owner.organization.id, "Zoe", "zoe@example.org", now_us()
            )
        found = await workers.find(db, other.organization.id, "zoe@example.org")
        with pytest.raises(NotFoundError, match="worker list"):
            await workers.find(db, tenant.organization.id, ids.text(ids.WORKER, found.id))
        with pytest.raises(NotFoundError):
            await workers.find(db, tenant.organization.id, "\0")


async def test_an_e_mail_is_one_worker_s_in_any_case(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with await tenant.connect() as db:
        await workers.create(
            at_home(db), tenant.organization.id, "Zoe", "zoe@example.org", now_us()
        )
        with pytest.raises(AlreadyExistsError, match="ZOE@example"):
            await workers.create(
                at_home(db), tenant.organization.id, "Z", "ZOE@example.org", now_us()
            )


@pytest.mark.parametrize(("name", "email"), [("", None), (" Zoe", None), ("Zoe", "zoe")])
async def test_a_worker_that_breaks_the_rules_is_not_created(
    database_url: str, name: str, email: str | None
) -> None:
    tenant = await make_tenant(database_url)
    async with await tenant.connect() as db:
        with pytest.raises(InvalidValueError):
            await workers.create(at_home(db), tenant.organization.id, name, email, now_us())
        assert await workers.of_organization(db, tenant.organization.id) == []
