"""Apps, as operators create and find them."""

from __future__ import annotations

import pytest

from core import ids
from core.admin import apps
from core.admin.cell_sessions import at_home
from core.admin.errors import AlreadyExistsError, InvalidValueError, NotFoundError
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio


async def test_an_app_is_found_as_it_was_created(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with await tenant.connect() as db:
        types = ["deal.won", "call.ended", "deal.won"]
        created = await apps.create(at_home(db), tenant.organization, "a-1", "Hub", types, now_us())
        assert created.allowed_event_types == ["call.ended", "deal.won"]
        name, app_id = tenant.organization.name, ids.text(ids.APP, created.id)
        for given in (app_id, "a-1", f"{name}/a-1"):
            assert await apps.find(db, given) == created
        assert await apps.of_organization(db, tenant.organization.id) == [created, tenant.app]


async def test_a_slug_is_unique_in_its_organization_only(database_url: str) -> None:
    tenant, other = await make_tenant(database_url), await make_tenant(database_url)
    slug = tenant.app.slug
    async with await tenant.connect() as db:
        with pytest.raises(AlreadyExistsError, match=slug):
            await apps.create(
                at_home(db), tenant.organization, slug, "Again", ["deal.won"], now_us()
            )
        with pytest.raises(NotFoundError, match="several organizations"):
            await apps.find(db, slug)
        assert (await apps.find(db, slug, other.organization.id)).id == other.app.id
        assert {app.id for app in await apps.of_organization(db)} == {tenant.app.id, other.app.id}


async def test_a_misspelled_name_is_answered_with_a_similar_one(database_url: str) -> None:
    tenant = await make_tenant(database_url)
    async with await tenant.connect() as db:
        with pytest.raises(NotFoundError, match="did you mean 'crm-hub'"):
            await apps.find(db, "crm-hug")
        with pytest.raises(NotFoundError, match="app list"):
            await apps.find(db, "\0")


@pytest.mark.parametrize("slug", ["", "-a", "a-", "A", "a_b", "a" * 65, "a\n"])
async def test_a_slug_that_breaks_the_rules_is_refused(slug: str) -> None:
    with pytest.raises(InvalidValueError):
        apps.check_slug(slug)


async def test_the_source_of_events_names_the_app() -> None:
    assert apps.source("crm-hub") == "custom:crm-hub"
    assert apps.check_slug("a" * 64) == "a" * 64
