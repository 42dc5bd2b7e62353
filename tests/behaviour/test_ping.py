"""Ping: who a key belongs to."""

import pytest

from core import ids
from tests.support.driver import Driver
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio


async def test_ping_tells_the_app_and_organization_of_the_key(
    driver: Driver, tenant: Tenant
) -> None:
    reply = await driver.ping(tenant.key)
    assert reply.code is None
    assert reply.body == {
        "ok": True,
        "organizationId": tenant.organization_id,
        "app": {
            "id": ids.text(ids.APP, tenant.app.id),
            "slug": "crm-hub",
            "name": "CRM Hub",
        },
    }
