"""The rotation of keys: the new one works, and the old one ends in time."""

from __future__ import annotations

import pytest

from core.access.key_secrets import key_secrets
from core.admin import key_rotation, keys
from core.admin.cell_sessions import CellSessions
from core.admin.errors import AdministrationError, InvalidValueError
from core.timestamps import MAX_US, from_datetime
from tests.support.tenant import make_tenant, now_us

pytestmark = pytest.mark.anyio

DAY_US = 86_400_000_000


async def test_the_old_key_ends_and_the_new_one_has_its_app_and_rate(database_url: str) -> None:
    tenant, now = await make_tenant(database_url), now_us()
    async with await tenant.connect() as db, CellSessions(db, database_url, 10) as cells:
        secrets = await key_secrets(db, None)
        cell, found = await keys.find(cells, tenant.key, secrets)
        old, new, text = await key_rotation.rotate(
            cell, found, secrets, now, old_ends_us=now + DAY_US
        )
        assert old.expires_at is not None
        assert from_datetime(old.expires_at) == now + DAY_US
        assert (old.state(now), old.state(now + DAY_US)) == ("active", "expired")
        assert (new.app_id, new.requests_per_second) == (old.app_id, old.requests_per_second)
        assert (await keys.find(cells, text, secrets))[1] == new
        # A second rotation leaves the end as it is, or brings it nearer.
        again, _, _ = await key_rotation.rotate(
            cell, old, secrets, now, old_ends_us=now + 2 * DAY_US
        )
        assert again.expires_at == old.expires_at


async def test_a_key_that_does_not_work_is_not_replaced(database_url: str) -> None:
    tenant, now = await make_tenant(database_url), now_us()
    async with await tenant.connect() as db, CellSessions(db, database_url, 10) as cells:
        secrets = await key_secrets(db, None)
        cell, found = await keys.find(cells, tenant.key, secrets)
        with pytest.raises(InvalidValueError, match="year 10000"):
            await key_rotation.rotate(cell, found, secrets, now, old_ends_us=MAX_US + 1)
        revoked = await keys.revoke(cell, found, now)
        with pytest.raises(AdministrationError, match="revoked"):
            await key_rotation.rotate(cell, revoked, secrets, now, old_ends_us=now)
        # Also when only the database knows of it.
        with pytest.raises(AdministrationError, match="revoked"):
            await key_rotation.rotate(cell, found, secrets, now, old_ends_us=now)
        working = [key for key in await keys.of_app(db, tenant.app) if key.revoked_at is None]
        assert len(working) <= 1
