"""Operators for tests of the management API and the console."""

from __future__ import annotations

import itertools

from core.access.key_secrets import key_secrets
from core.admin import operators
from core.admin.cell_sessions import at_home
from core.admin.operators import Operator, Scope
from core.postgres.sessions import connect
from tests.support.tenant import now_us

_numbers = itertools.count(1)


async def make_operator(
    database_url: str, scope: Scope = "write", expires_us: int | None = None
) -> tuple[Operator, str]:
    """An operator of a new name, and the token."""
    async with await connect(database_url) as db:
        secrets = await key_secrets(db)
        name = f"operator {next(_numbers)} {now_us()}"
        return await operators.create(
            at_home(db), name, scope, secrets, now_us(), expires_us=expires_us
        )
