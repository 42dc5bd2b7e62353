"""What `serve` says of a database when it starts."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from service.runtime import bring_up_to_date

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("level", "warned"), [("error", True), ("panic", False)])
async def test_a_server_that_logs_statements_is_warned_of(
    level: str, warned: bool, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(
            sql.SQL("ALTER DATABASE {} SET log_min_error_statement = {}").format(
                sql.Identifier(db.info.dbname), level
            )
        )
    await bring_up_to_date(database_url)
    assert ("log_min_error_statement" in caplog.text) is warned
