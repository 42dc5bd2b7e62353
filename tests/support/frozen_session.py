"""A session whose server hangs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import psycopg
import pytest
from psycopg import AsyncConnection

from core.postgres.errors import is_connection_loss
from tests.support.database import connect
from tests.support.postgres_proxy import PostgresProxy

LOST_WITHIN_SECONDS: Final = 15


@contextlib.asynccontextmanager
async def frozen_session(database_url: str) -> AsyncIterator[AsyncConnection[Any]]:
    """Nothing comes on the session any more; the block has to end by its loss, and in time."""
    with PostgresProxy(database_url) as proxy:
        async with await connect(proxy.conninfo) as db:
            proxy.freeze()
            async with asyncio.timeout(LOST_WITHIN_SECONDS):
                with pytest.raises(psycopg.OperationalError) as caught:
                    yield db
            assert is_connection_loss(caught.value)
