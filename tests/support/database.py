"""Connections of a test's own to its database."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from core.postgres import sessions


async def connect(
    database_url: str, application_name: str = "wepeople-ingest"
) -> AsyncConnection[Any]:
    """A connection with the service's settings, in autocommit mode; the test closes it."""
    return await sessions.connect(make_conninfo(database_url, application_name=application_name))
