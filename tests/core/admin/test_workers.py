"""Workers, as operators create and find them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from core import ids
from core.admin import workers
from core.admin.cell_sessions import at_home
from core.admin.errors import (
    AdministrationError,
    AlreadyExistsError,
    InvalidValueError,
    NotFoundError,
)
from core.admin.workers import Link
from core.journal import worker_changes
from core.journal import workers as journal_workers
from core.models import Actor
from tests.support.direct_writer import DirectWriter
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


async def test_an_e_mail_is_not_changed_while_an_event_looks_for_its_worker(
    quota_of_five: DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event has lost the race to make the worker: it looks for the one that has the e-mail."""
    tenant, owner = quota_of_five.tenant, quota_of_five.tenant.organization.id
    monkeypatch.setattr(worker_changes, "MAX_ALONE_TRIES", 1)
    made = journal_workers._insert
    async with tenant.in_cell() as cell:

        async def overtaken(*given: Any) -> set[UUID]:
            zoe = await workers.create(cell, owner, "Zoe", "zoe@example.org", now_us())
            inserted = await made(*given)
            with pytest.raises(AdministrationError, match="nothing was changed"):
                await workers.rename(cell, owner, zoe.id, "Zoe", "zoe@example.com")
            return inserted

        with monkeypatch.context() as patched:
            patched.setattr(journal_workers, "_insert", overtaken)
            await quota_of_five.write(
                quota_of_five.request(1, actor=Actor(external_id="crm-1", email="zoe@example.org"))
            )
        [zoe] = await workers.of_organization(cell.db, owner)
        [event] = await tenant.events()
        assert event["worker_id"] == zoe.id
        renamed = await workers.rename(cell, owner, zoe.id, "Zoe", "zoe@example.com")
        assert (renamed.email, renamed.links) == ("zoe@example.com", (Link("crm-hub", "crm-1"),))


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


async def test_a_worker_is_renamed_and_the_audit_log_does_not_say_how(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    owner = tenant.organization.id
    async with tenant.in_cell() as cell:
        zoe = await workers.create(cell, owner, "Zoe", "zoe@example.org", now_us())
        await workers.create(cell, owner, "Alex", "alex@example.org", now_us())
        await workers.rename(cell, owner, zoe.id, "Zoë", "ZOE@example.net")
        found = await workers.find(cell.db, owner, "zoe@EXAMPLE.net")
        assert (found.id, found.display_name, found.email) == (zoe.id, "Zoë", "ZOE@example.net")
        with pytest.raises(NotFoundError):
            await workers.find(cell.db, owner, "zoe@example.org")
        with pytest.raises(AlreadyExistsError):
            await workers.rename(cell, owner, zoe.id, "Zoë", "ALEX@example.org")
        assert (await workers.rename(cell, owner, zoe.id, "Z")).email == "ZOE@example.net"
        assert (await workers.rename(cell, owner, zoe.id, "Z", None)).email is None
        await workers.rename(cell, owner, zoe.id, "Z", None)  # as it was
        with pytest.raises(NotFoundError):
            await workers.rename(cell, owner, owner, "Z")
        audited = await (
            await cell.home.execute(
                "SELECT after FROM audit WHERE action = 'worker.rename' ORDER BY id"
            )
        ).fetchall()
    both = {"displayName": "changed", "email": "changed"}
    assert [row[0] for row in audited] == [both, {"displayName": "changed"}, {"email": "changed"}]


async def test_an_e_mail_that_earlier_releases_gave_twice_is_kept(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with tenant.in_cell() as cell:
        owner = tenant.organization.id
        zoe = await workers.create(cell, owner, "Zoe", "zoe@example.org", now_us())
        younger = await workers.create(cell, owner, "Zoe", None, now_us())
        await cell.db.execute(
            "UPDATE workers SET email = 'ZOE@example.org' WHERE id = %s", (younger.id,)
        )
        renamed = await workers.rename(cell, owner, younger.id, "Z")
        assert renamed.email == "ZOE@example.org"
        assert (await workers.find(cell.db, owner, "zoe@example.org")).id == zoe.id
