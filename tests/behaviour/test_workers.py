"""Workers: whom an actor names, and that nobody is made twice, in vain or in another's name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from core import ids
from tests.behaviour.examples import BROKEN
from tests.conftest import MakeTenant
from tests.support.driver import Driver
from tests.support.tenant import NOBODY, Tenant, event, snapshot

pytestmark = pytest.mark.anyio

Actor = dict[str, Any]
MANY = 50


async def whose(driver: Driver, tenant: Tenant, actor: Actor) -> UUID:
    """Send an event about an actor; the worker it is stored for."""
    reply = await driver.ingest(tenant.key, [event(actor=actor)])
    assert reply.code is None, reply.message
    worker_id = (await tenant.events())[-1]["worker_id"]
    assert isinstance(worker_id, UUID)
    return worker_id


def by_id(worker_id: UUID) -> str:
    """A worker's id as clients see it."""
    return ids.text(ids.WORKER, worker_id)


@pytest.mark.parametrize(
    "actor",
    [
        {"externalId": "crm-42"},
        {"email": "alex@example.com"},
        {"externalId": "crm-42", "email": "alex@example.com"},
    ],
)
async def test_a_person_is_made_once_and_found_again(
    driver: Driver, tenant: Tenant, actor: Actor
) -> None:
    first = await whose(driver, tenant, actor)
    assert await whose(driver, tenant, actor) == first
    assert [worker["id"] for worker in await tenant.workers()] == [first]


async def test_a_worker_id_names_an_existing_worker(driver: Driver, tenant: Tenant) -> None:
    alex = await whose(driver, tenant, {"externalId": "alex"})
    assert await whose(driver, tenant, {"workerId": by_id(alex)}) == alex


async def test_a_worker_id_outranks_whatever_else_is_given(driver: Driver, tenant: Tenant) -> None:
    alex = await whose(driver, tenant, {"externalId": "alex"})
    sam = await whose(driver, tenant, {"email": "sam@example.com"})
    both = {"workerId": by_id(alex), "externalId": "new", "email": "sam@example.com"}
    assert await whose(driver, tenant, both) == alex
    assert await whose(driver, tenant, {"externalId": "new"}) not in (alex, sam)  # not linked
    assert await whose(driver, tenant, {"email": "sam@example.com"}) == sam


@pytest.mark.parametrize(
    "worker_id", [NOBODY, "nobody", "wrk_", NOBODY.lower(), NOBODY[4:], "app_" + NOBODY[4:]]
)
async def test_an_unknown_worker_id_is_refused_whatever_else_is_given(
    driver: Driver, tenant: Tenant, worker_id: str
) -> None:
    await whose(driver, tenant, {"externalId": "alex", "email": "alex@example.com"})
    actor = {"workerId": worker_id, "externalId": "alex", "email": "alex@example.com"}
    reply = await driver.ingest(tenant.key, [event(actor=actor)])
    assert reply.codes == ["worker_not_found"]
    assert len(await tenant.events()) == 1


async def test_an_external_id_outranks_the_email(driver: Driver, tenant: Tenant) -> None:
    alex = await whose(driver, tenant, {"externalId": "alex"})
    sam = await whose(driver, tenant, {"email": "sam@example.com"})
    both = {"externalId": "alex", "email": "sam@example.com"}
    assert await whose(driver, tenant, both) == alex
    assert await whose(driver, tenant, {"email": "sam@example.com"}) == sam
    await whose(driver, tenant, {"externalId": "alex", "email": "unseen@example.com"})
    assert len(await tenant.workers()) == 2


async def test_a_new_external_id_is_linked_to_the_worker_with_the_email(
    driver: Driver, tenant: Tenant
) -> None:
    alex = await whose(driver, tenant, {"email": "alex@example.com"})
    both = {"externalId": "crm-42", "email": "ALEX@example.com"}
    assert await whose(driver, tenant, both) == alex
    assert await whose(driver, tenant, {"externalId": "crm-42"}) == alex
    assert len(await tenant.workers()) == 1


async def test_links_are_of_one_app_and_emails_of_the_organization(
    driver: Driver, tenant: Tenant
) -> None:
    other = await tenant.another_app()
    here = await whose(driver, tenant, {"externalId": "42"})
    assert await whose(driver, other, {"externalId": "42"}) != here
    alex = await whose(driver, tenant, {"externalId": "43", "email": "alex@example.com"})
    assert await whose(driver, other, {"externalId": "43", "email": "alex@example.com"}) == alex
    assert await whose(driver, other, {"workerId": by_id(here)}) == here


@pytest.mark.parametrize(
    ("email", "equal"),
    [
        ("STRASSE@example.com", "straße@example.com"),
        ("STRAẞE@example.com", "strasse@example.com"),
        ("ΝΙΚΟΣ@example.com", "νικος@example.com"),
        ("νικος@example.com", "νικοσ@example.com"),
        ("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}@example.com", "i\u0307@example.com"),
        ("\N{KELVIN SIGN}@example.com", "k@example.com"),
        ("ﬁ@example.com", "FI@example.com"),
    ],
)
async def test_emails_are_compared_by_case_folding(
    driver: Driver, tenant: Tenant, email: str, equal: str
) -> None:
    alex = await whose(driver, tenant, {"email": email})
    assert await whose(driver, tenant, {"email": equal}) == alex
    assert await whose(driver, tenant, {"externalId": "crm-42", "email": equal}) == alex
    assert [worker["email"] for worker in await tenant.workers()] == [email]


async def test_emails_are_compared_without_case_and_trimmed_of_nothing(
    driver: Driver, tenant: Tenant
) -> None:
    alex = await whose(driver, tenant, {"email": "Alex.Ÿ@Example.com"})
    assert await whose(driver, tenant, {"email": "aLEX.ÿ@eXAMPLE.COM"}) == alex
    others = {
        await whose(driver, tenant, {"email": email})
        for email in (
            *(" alex.ÿ@example.com", "alex.ÿ@example.com ", "alex.y\u0308@example.com"),
            "alex.ÿ@example.com.",
        )
    }
    assert len(others | {alex}) == 5
    assert (await tenant.workers())[0]["email"] == "Alex.Ÿ@Example.com"


async def test_external_ids_are_compared_as_sent(driver: Driver, tenant: Tenant) -> None:
    names = ["Alex", "alex", "alex ", " alex", "\u00e9", "e\u0301", "ﬀ", "ff"]
    found = {await whose(driver, tenant, {"externalId": name}) for name in names}
    assert len(found) == len(names)


@pytest.mark.parametrize(
    ("actor", "name"),
    [
        ({"externalId": "crm-42"}, "crm-42"),
        ({"email": "Alex.Chen@example.com"}, "Alex.Chen"),
        ({"email": '"a@b"@example.com'}, '"a@b"'),
        ({"email": "y" * 250 + "@example.com"}, "y" * 200),
        ({"externalId": "crm-42", "email": "Alex.Chen@example.com"}, "Alex.Chen"),
        ({"externalId": "crm-42", "displayName": " Alex Chen "}, " Alex Chen "),
        ({"email": "a@b", "displayName": "Alex Chen"}, "Alex Chen"),
        (
            {"externalId": "crm-42", "email": "a@b", "displayName": "Zoë \U0001f600"},
            "Zoë \U0001f600",
        ),
    ],
)
async def test_a_new_worker_is_called(
    driver: Driver, tenant: Tenant, actor: Actor, name: str
) -> None:
    await whose(driver, tenant, actor)
    await whose(driver, tenant, {**actor, "displayName": "Another Name"})  # known by now
    assert [worker["display_name"] for worker in await tenant.workers()] == [name]


async def test_names_of_one_batch_come_together(driver: Driver, tenant: Tenant) -> None:
    actors = [
        {"externalId": "crm-42", "email": "alex@example.com"},
        {"email": "Alex@Example.com"},
        {"externalId": "crm-43", "email": "ALEX@example.com"},
        {"externalId": "crm-42"},
    ]
    reply = await driver.ingest(tenant.key, [event(actor=actor) for actor in actors])
    assert len(reply.accepted) == 4
    (worker,) = await tenant.workers()
    assert {row["worker_id"] for row in await tenant.events()} == {worker["id"]}


async def test_another_organizations_workers_are_out_of_reach(
    driver: Driver, new_tenant: MakeTenant
) -> None:
    ours, theirs = await new_tenant(), await new_tenant()
    actor = {"externalId": "42", "email": "alex@example.com"}
    alex = await whose(driver, theirs, actor)
    reply = await driver.ingest(ours.key, [event(actor={"workerId": by_id(alex)})])
    assert reply.code == "worker_not_found"
    card = await driver.snapshot(ours.key, snapshot(actor={"workerId": by_id(alex)}))
    assert card.code == "worker_not_found"
    assert await whose(driver, ours, actor) != alex
    assert len(await theirs.events()) == 1


@pytest.mark.parametrize(
    "actor_of",
    [
        lambda index: {"externalId": "crm-42"},
        lambda index: {"email": "alex@example.com"},
        lambda index: {
            "email": ("alex@example.com", "ALEX@example.com", "Alex@Example.Com")[index % 3]
        },
        lambda index: {"externalId": "crm-42", "email": "alex@example.com"},
        lambda index: {"externalId": f"crm-{index}", "email": "alex@example.com"},
        lambda index: (
            {"email": "alex@example.com", "externalId": "crm-42"}
            if index % 2
            else {"email": "alex@example.com"}
        ),
    ],
    ids=["external-id", "email", "case", "both", "many-links", "mixed"],
)
async def test_simultaneous_batches_that_name_one_new_person_make_one_worker(
    replicas: tuple[Driver, Driver], tenant: Tenant, actor_of: Callable[[int], Actor]
) -> None:
    await _send_at_once(replicas, [tenant], actor_of)
    (worker,) = await tenant.workers()
    assert {row["worker_id"] for row in await tenant.events()} == {worker["id"]}


async def test_two_apps_that_name_one_new_person_by_email_make_one_worker(
    replicas: tuple[Driver, Driver], tenant: Tenant
) -> None:
    apps = [tenant, await tenant.another_app()]
    await _send_at_once(
        replicas, apps, lambda index: {"externalId": "42", "email": "alex@example.com"}
    )
    (worker,) = await tenant.workers()
    assert {row["worker_id"] for row in await tenant.events()} == {worker["id"]}
    links = await tenant.rows(
        "SELECT worker_id FROM worker_links WHERE organization_id = %s", tenant.organization.id
    )
    assert [link["worker_id"] for link in links] == [worker["id"]] * 2


async def test_simultaneous_batches_of_many_new_people_make_each_once(
    replicas: tuple[Driver, Driver], tenant: Tenant
) -> None:
    """In different orders, as a deadlock would have it."""
    actors = [{"externalId": f"crm-{n}", "email": f"{n}@example.com"} for n in range(20)]
    batches = [actors, actors[::-1], actors[7:] + actors[:7]] * 6
    replies = await asyncio.gather(
        *(
            replicas[index % 2].ingest(tenant.key, [event(actor=actor) for actor in batch])
            for index, batch in enumerate(batches)
        )
    )
    assert [len(reply.accepted) for reply in replies] == [20] * 18
    assert len(await tenant.workers()) == 20


async def _send_at_once(
    clients: tuple[Driver, Driver], apps: list[Tenant], actor_of: Callable[[int], Actor]
) -> None:
    replies = await asyncio.gather(
        *(
            clients[index % 2].ingest(
                apps[index // 2 % len(apps)].key, [event(actor=actor_of(index))]
            )
            for index in range(MANY)
        )
    )
    assert [reply.code for reply in replies] == [None] * MANY


@pytest.mark.parametrize(
    "members",
    [{"duration": -1}, BROKEN["forbidden_event_type"], BROKEN["worker_not_found"]],
)
async def test_a_rejected_event_makes_nobody(
    driver: Driver, tenant: Tenant, members: dict[str, Any]
) -> None:
    actor = {"externalId": "new", "email": "new@example.com", **members.get("actor", {})}
    bad = event(**{**members, "actor": actor})
    assert len((await driver.ingest(tenant.key, [event(), bad])).rejected) == 1
    assert [worker["display_name"] for worker in await tenant.workers()] == ["crm-user-1"]
    assert len(await _links(tenant)) == 1


async def test_an_event_over_the_quota_makes_nobody(driver: Driver, new_tenant: MakeTenant) -> None:
    tenant = await new_tenant(monthly_quota=1)
    reply = await driver.ingest(tenant.key, [event("first"), event("second")])
    assert reply.codes == ["quota_exceeded"]
    await driver.ingest(tenant.key, [event(actor={"email": "third@example.com"})])
    await driver.snapshot(tenant.key, snapshot("fourth"))
    assert [worker["display_name"] for worker in await tenant.workers()] == ["first"]
    assert len(await _links(tenant)) == 1


async def _links(tenant: Tenant) -> list[dict[str, Any]]:
    return await tenant.rows(
        "SELECT external_id FROM worker_links WHERE organization_id = %s", tenant.organization.id
    )
