"""An app's producers: at most so many, exact under concurrency, forgotten when unused."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core import limits
from core.admin import removal
from core.admin.cell_sessions import at_home
from core.error_codes import StreamReason
from core.errors import StreamError
from core.journal import app_producers
from core.journal.app_producers import MAX_STREAM_AGE, forget_unused, open_stream
from core.journal.producers import ProducerKey, Progress
from tests.support.tenant import Tenant, make_tenant, now_us

pytestmark = pytest.mark.anyio
UNUSED_US = (timedelta(days=limits.PRODUCER_UNUSED_DAYS) + MAX_STREAM_AGE) // timedelta(
    microseconds=1
)


@pytest.fixture
async def own_tenant(database_url: str) -> Tenant:
    return await make_tenant(database_url)


def key(tenant: Tenant, producer_id: str) -> ProducerKey:
    return ProducerKey(tenant.organization.id, tenant.app.id, producer_id)


async def opened(tenant: Tenant, producer_id: str, us: int = 0) -> Progress | StreamReason:
    """Open it over a connection of its own; the reason if that is refused."""
    async with await tenant.connect() as db:
        try:
            return await open_stream(db, key(tenant, producer_id), us or now_us())
        except StreamError as error:
            return error.reason


async def counts(tenant: Tenant) -> tuple[int, int]:
    """The producers of its app, as they are counted and as they are there."""
    [row] = await tenant.rows(
        "SELECT (SELECT sum(producers)::bigint FROM producer_counts WHERE app_id = %s) AS counted, "
        "(SELECT count(*) FROM producers WHERE app_id = %s) AS there",
        tenant.app.id,
        tenant.app.id,
    )
    return int(row["counted"] or 0), int(row["there"])


async def test_the_limit_is_exact_however_many_are_opened_at_once(
    own_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_APP_PRODUCERS", 7)
    names = [f"producer-{number}" for number in range(12)] * 3
    answers = await asyncio.gather(*(opened(own_tenant, name) for name in names))
    refused = {n for n, answer in zip(names, answers, strict=True) if answer == "producer_limit"}
    assert len(refused) == 5
    assert sum(answer == "producer_limit" for answer in answers) == 15
    epochs = [answer.epoch for answer in answers if isinstance(answer, Progress)]
    assert sorted(epochs) == sorted([1, 2, 3] * 7)
    assert await counts(own_tenant) == (7, 7)
    # Those that are there are opened as ever; another app has a limit of its own.
    assert isinstance(await opened(own_tenant, (set(names) - refused).pop()), Progress)
    assert isinstance(await opened(await own_tenant.another_app(), "producer-0"), Progress)


async def test_a_producer_that_is_not_used_for_long_makes_room_and_begins_anew(
    own_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_APP_PRODUCERS", 2)
    now = now_us()
    await opened(own_tenant, "old", now - UNUSED_US - 1)
    await opened(own_tenant, "young", now - UNUSED_US + 60_000_000)
    await own_tenant.rows("UPDATE producers SET sequence = 5")
    assert await opened(own_tenant, "new") is StreamReason.PRODUCER_LIMIT
    async with await own_tenant.connect() as db:
        assert await forget_unused(db, now) == 1
        assert await forget_unused(db, now) == 0
    assert await counts(own_tenant) == (1, 1)
    assert await opened(own_tenant, "old") == Progress(0, 1, 0, 0)
    assert await opened(own_tenant, "new") is StreamReason.PRODUCER_LIMIT
    young = await opened(own_tenant, "young")
    assert isinstance(young, Progress)
    assert (young.sequence, young.epoch) == (5, 2)


async def test_a_producer_that_is_forgotten_as_it_is_opened_is_counted_right(
    own_tenant: Tenant,
) -> None:
    for turn in range(5):
        await opened(own_tenant, "one", now_us() - UNUSED_US - 1)
        async with await own_tenant.connect() as db:
            progress, _ = await asyncio.gather(
                opened(own_tenant, "one"), forget_unused(db, now_us())
            )
        assert isinstance(progress, Progress), turn
        assert await counts(own_tenant) == (1, 1)


async def test_a_removed_organization_leaves_no_count(
    own_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "QUIET_SECONDS", 0)
    await opened(own_tenant, "one")
    async with await own_tenant.connect() as db:
        await removal.remove_organization(at_home(db), own_tenant.organization.id)
    assert await counts(own_tenant) == (0, 0)


async def test_the_usual_opening_takes_one_statement(
    own_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(own_tenant, "one")

    async def make(*_: object) -> Progress:
        raise AssertionError("it is there already")

    monkeypatch.setattr(app_producers, "_make", make)
    assert await opened(own_tenant, "one") == Progress(0, 2, 0, 0)
