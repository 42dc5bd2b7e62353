"""Names for completion: those that begin so, of every cell, a bounded number."""

from __future__ import annotations

import pytest

from core import ids
from core.admin import names
from core.admin.cell_sessions import CellSessions
from tests.support.cells import add_cell, make_tenant_in
from tests.support.database import connect
from tests.support.tenant import make_tenant

pytestmark = pytest.mark.anyio


async def test_names_are_of_every_cell_and_as_many_as_can_be_shown(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await make_tenant(database_url, "home")
    far = await make_tenant_in(await add_cell(database_url, "west"), database_url)
    other = await tenant.another_app()
    async with await connect(database_url) as db, CellSessions(db, database_url, 10) as cells:
        both = sorted([tenant.organization.name, far.organization.name])
        assert await names.organizations(cells, "Organization ") == both
        assert await names.organizations(cells, "organization ") == []
        assert await names.organizations(cells, far.organization.name[:-1]) == [
            far.organization.name
        ]
        assert await names.apps(cells, "crm") == []  # two organizations have it
        assert await names.apps(cells, other.app.slug) == [other.app.slug]
        far_app = f"{far.organization.name}/crm-hub"
        assert await names.apps(cells, f"{far.organization.name}/") == [far_app]
        assert await names.slugs(cells, "") == sorted(["crm-hub", other.app.slug])
        shown = dict(await names.keys(cells, "key_"))
        assert len(shown) == 3
        assert shown[ids.text(ids.KEY, far.api_key.id)] == f"…{far.key[-4:]} {far_app}"
        await other.revoke()
        assert len(await names.keys(cells, "key_")) == 2
        monkeypatch.setattr(names, "MAX_NAMES", 1)
        assert await names.organizations(cells, "") == both[:1]
        assert len(await names.apps(cells, "")) == len(await names.slugs(cells, "")) == 1
        assert len(await names.keys(cells, "")) == 1
