"""The PostgreSQL that tests share."""

from __future__ import annotations

from typing import ClassVar

from service.postgres.embedded import EmbeddedPostgres


class UnsyncedPostgres(EmbeddedPostgres):
    """An embedded PostgreSQL whose data does not survive a power cut."""

    keeper: ClassVar = "tests.support.unsynced_keeper"
