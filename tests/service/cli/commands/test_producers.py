"""``producer list`` and ``producer forget``."""

from __future__ import annotations

import asyncio

from core import ids
from core.admin import apps
from core.journal.app_producers import open_stream
from core.journal.producers import ProducerKey
from tests.service.cli.command import Run
from tests.support.database import connect
from tests.support.tenant import now_us


def test_producers_are_listed_and_forgotten(run: Run, acme: str, database_url: str) -> None:
    assert "There are no producers" in run("producer", "list", "Acme").err

    async def open_one() -> None:
        async with await connect(database_url) as db:
            app = await apps.find(db, "crm-hub")
            await open_stream(db, ProducerKey(app.organization_id, app.id, "p 1"), now_us())

    asyncio.run(open_one())
    [listed] = run("producer", "list", "Acme", "--app", "crm-hub", "--json").json()
    assert (listed["app"], listed["producer"], listed["lastSequence"]) == ("crm-hub", "p 1", 0)
    assert "p 1" in run("producer", "list", "Acme").out
    refused = run("producer", "forget", "Acme", "p 1")
    assert (refused.code, refused.out) == (1, "")
    assert "--force" in refused.err
    gone = run("producer", "forget", "Acme", "p 1", "--force", "--json").json()
    assert (gone["producer"], gone["forgotten"]) == ("p 1", True)
    assert run("producer", "list", "Acme", "--json").json() == []
    [entry] = [one for one in run("audit", "Acme", "--json").json() if "producer" in one["action"]]
    assert entry["subject"].startswith(ids.APP)
