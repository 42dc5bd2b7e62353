"""The change of a worker's name and e-mail."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from core.admin import worker_rename, workers
from core.admin.errors import (
    AdministrationError,
    AlreadyExistsError,
    NotFoundError,
)
from core.admin.workers import Link
from core.journal import worker_changes
from core.journal import workers as journal_workers
from core.models import Actor
from tests.support.direct_writer import DirectWriter
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio


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
                await worker_rename.rename(cell, owner, zoe.id, "Zoe", "zoe@example.com")
            return inserted

        with monkeypatch.context() as patched:
            patched.setattr(journal_workers, "_insert", overtaken)
            await quota_of_five.write(
                quota_of_five.request(1, actor=Actor(external_id="crm-1", email="zoe@example.org"))
            )
        [zoe] = await workers.of_organization(cell.db, owner)
        [event] = await tenant.events()
        assert event["worker_id"] == zoe.id
        renamed = await worker_rename.rename(cell, owner, zoe.id, "Zoe", "zoe@example.com")
        assert (renamed.email, renamed.links) == ("zoe@example.com", (Link("crm-hub", "crm-1"),))


async def test_a_worker_is_renamed_and_the_audit_log_does_not_say_how(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    owner = tenant.organization.id
    async with tenant.in_cell() as cell:
        zoe = await workers.create(cell, owner, "Zoe", "zoe@example.org", now_us())
        await workers.create(cell, owner, "Alex", "alex@example.org", now_us())
        await worker_rename.rename(cell, owner, zoe.id, "Zoë", "ZOE@example.net")
        found = await workers.find(cell.db, owner, "zoe@EXAMPLE.net")
        assert (found.id, found.display_name, found.email) == (zoe.id, "Zoë", "ZOE@example.net")
        with pytest.raises(NotFoundError):
            await workers.find(cell.db, owner, "zoe@example.org")
        with pytest.raises(AlreadyExistsError):
            await worker_rename.rename(cell, owner, zoe.id, "Zoë", "ALEX@example.org")
        assert (await worker_rename.rename(cell, owner, zoe.id, "Z")).email == "ZOE@example.net"
        assert (await worker_rename.rename(cell, owner, zoe.id, "Z", None)).email is None
        await worker_rename.rename(cell, owner, zoe.id, "Z", None)  # as it was
        with pytest.raises(NotFoundError):
            await worker_rename.rename(cell, owner, owner, "Z")
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
        renamed = await worker_rename.rename(cell, owner, younger.id, "Z")
        assert renamed.email == "ZOE@example.org"
        assert (await workers.find(cell.db, owner, "zoe@example.org")).id == zoe.id
