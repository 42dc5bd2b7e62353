"""The database that the settings name, whatever else the environment says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from core.postgres.database import Database
from core.postgres.errors import DatabaseUnusableError
from service.postgres.open_database import open_database
from service.settings import Settings

pytestmark = pytest.mark.anyio

# Of another server. Each of them alone would keep libpq from the embedded one, or end the start.
FOREIGN: Final = {
    "PGSERVICE": "no-such-service",
    "PGHOST": "db.invalid",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGDATABASE": "elsewhere",
    "PGOPTIONS": "-c no_such_setting=1",
    "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGREQUIREPEER": "nobody",
    "PGTZ": "Nowhere/None",
    "PGDATESTYLE": "nonsense",
    "PGCLIENTENCODING": "nonsense",
}


async def test_the_embedded_database_is_not_that_of_the_environment(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environment({"WEPEOPLE_DATA_DIR": os.fspath(data_dir)})
    async with open_database(settings) as conninfo, Database(conninfo) as database:
        async with database.connection() as db:
            cursor = await db.execute("SELECT current_database(), current_setting('TimeZone')")
            assert await cursor.fetchone() == ("wepeople", "UTC")
        assert not FOREIGN.keys() & os.environ.keys()  # nor that of its children


@pytest.mark.parametrize(
    "name", ["PGSERVICE", "PGCHANNELBINDING", "PGTARGETSESSIONATTRS", "PGTZ", "PGOPTIONS"]
)
async def test_a_variable_that_keeps_the_service_from_a_server_is_named(
    postgres: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, FOREIGN[name])
    settings = Settings.from_environment({"DATABASE_URL": postgres})
    with pytest.raises(DatabaseUnusableError, match=f"{name}|no_such_setting"):
        async with open_database(settings):
            pass
