"""The PostgreSQL that tests share."""

from __future__ import annotations

import os

import psycopg
import pytest


@pytest.mark.skipif("DATABASE_URL" in os.environ, reason="another server is shared")
def test_it_waits_for_no_disk(postgres: str) -> None:
    with psycopg.connect(postgres) as db:
        row = db.execute("SHOW fsync").fetchone()
    assert row == ("off",)
