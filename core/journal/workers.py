"""Workers: the person that an actor names, made when it is named for the first time.

Within a transaction each name is looked up or made once. The unique constraints on links and
e-mails decide races with other processes; their rows are inserted in sorted order.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from typing import Final
from uuid import UUID

from core import ids, limits
from core.emails import email_key
from core.models import Actor, Worker, WorkerByEmail, WorkerById, WorkerByLink, WorkerName
from core.postgres.sessions import Connection
from core.timestamps import to_datetime

MAX_CACHED_WORKERS: Final = 100_000


class WorkerCache:
    """Names already resolved and committed.

    The entries of an organization hold as of its count of changes (core/journal/worker_changes.py).
    A name that resolves to nobody is not kept. The oldest entries give way when it is full.
    """

    def __init__(self, most: int = MAX_CACHED_WORKERS) -> None:
        self._most = most
        self._workers: dict[WorkerName, Worker] = {}
        self._changes: dict[UUID, int] = {}  # of organizations that have had changes
        self.get = self._workers.get  # the worker of a name, if known

    def changes(self, organization_id: UUID) -> int:
        """The count of changes as of which the organization's entries hold."""
        return self._changes.get(organization_id, 0)

    def remember(self, resolved: Mapping[WorkerName, Worker], changes: Mapping[UUID, int]) -> None:
        """Keep what a committed transaction resolved that has read these counts of changes."""
        workers = self._workers
        for name, worker in resolved.items():
            if changes.get(name.organization_id) == self.changes(name.organization_id):
                workers[name] = worker
        while len(workers) > self._most:
            del workers[next(iter(workers))]

    def renew(self, changes: Mapping[UUID, int]) -> None:
        """Forget the workers of organizations that have other counts of changes now."""
        for name in [name for name in self._workers if name.organization_id in changes]:
            del self._workers[name]
        self._changes.update(changes)


# A worker that was merged is another name of the one it was merged into, and keeps its id and its
# e-mail for that. Links are moved. An erased worker has no names.
_BY_ID: Final = """
SELECT named.organization_id, named.id, workers.id, workers.display_name
FROM unnest(%s::uuid[], %s::uuid[]) AS wanted (organization_id, id)
JOIN workers AS named USING (organization_id, id)
JOIN workers ON workers.organization_id = named.organization_id
    AND workers.id = COALESCE(named.merged_into, named.id) AND workers.erased_at IS NULL
"""

_BY_LINK: Final = """
SELECT workers.organization_id, app_id, external_id, workers.id, display_name
FROM unnest(%s::uuid[], %s::uuid[], %s::text[]) AS wanted (organization_id, app_id, external_id)
JOIN worker_links USING (organization_id, app_id, external_id)
JOIN workers ON workers.organization_id = worker_links.organization_id
    AND workers.id = worker_links.worker_id
"""

_BY_EMAIL: Final = """
SELECT named.organization_id, named.email_key, workers.id, workers.display_name
FROM unnest(%s::uuid[], %s::text[]) AS wanted (organization_id, email_key)
JOIN workers AS named USING (organization_id, email_key)
JOIN workers ON workers.organization_id = named.organization_id
    AND workers.id = COALESCE(named.merged_into, named.id)
"""

_INSERT_LINKS: Final = """
INSERT INTO worker_links (organization_id, app_id, external_id, worker_id)
SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::uuid[])
ORDER BY 1, 2, 3
ON CONFLICT (organization_id, app_id, external_id) DO NOTHING
RETURNING organization_id, app_id, external_id
"""

_INSERT_WORKERS: Final = """
INSERT INTO workers (organization_id, id, display_name, email, email_key, created_at)
SELECT * FROM unnest(
    %s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::timestamptz[])
ORDER BY 1, 5, 2
ON CONFLICT (organization_id, email_key) DO NOTHING
RETURNING organization_id, id
"""

_REDIRECT_LINKS: Final = """
UPDATE worker_links SET worker_id = other.worker_id
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::uuid[])
    AS other (organization_id, app_id, external_id, worker_id)
WHERE worker_links.organization_id = other.organization_id
    AND worker_links.app_id = other.app_id AND worker_links.external_id = other.external_id
"""


async def find(db: Connection, names: Collection[WorkerName]) -> dict[WorkerName, Worker]:
    """The workers behind these names, for those that have one."""
    found: dict[WorkerName, Worker] = {}
    by_id = [name for name in names if isinstance(name, WorkerById)]
    by_link = [name for name in names if isinstance(name, WorkerByLink)]
    by_email = [name for name in names if isinstance(name, WorkerByEmail)]
    if by_id:
        cursor = await db.execute(
            _BY_ID,
            ([name.organization_id for name in by_id], [name.worker_id for name in by_id]),
        )
        for org, given_id, worker_id, display_name in await cursor.fetchall():
            found[WorkerById(org, given_id)] = Worker(worker_id, display_name)
    if by_link:
        cursor = await db.execute(
            _BY_LINK,
            (
                [name.organization_id for name in by_link],
                [name.app_id for name in by_link],
                [name.external_id for name in by_link],
            ),
        )
        for org, app_id, external_id, worker_id, display_name in await cursor.fetchall():
            found[WorkerByLink(org, app_id, external_id)] = Worker(worker_id, display_name)
    if by_email:
        cursor = await db.execute(
            _BY_EMAIL,
            ([name.organization_id for name in by_email], [name.email_key for name in by_email]),
        )
        for org, key, worker_id, display_name in await cursor.fetchall():
            found[WorkerByEmail(org, key)] = Worker(worker_id, display_name)
    return found


class _NewWorker:
    """A worker about to be made, with the name and e-mail of the first actor that named it."""

    def __init__(self, organization_id: UUID, actor: Actor, now_us: int) -> None:
        self.organization_id = organization_id
        self.worker = Worker(ids.new(now_us), _display_name(actor))
        self.email = actor.email


def _display_name(actor: Actor) -> str:
    if actor.display_name is not None:
        return actor.display_name
    if actor.email is not None:
        return actor.email.rpartition("@")[0][: limits.MAX_NAME_CHARACTERS]
    assert actor.external_id is not None
    return actor.external_id


async def provide(
    db: Connection, missing: Mapping[WorkerName, Actor], now_us: int
) -> dict[WorkerName, Worker]:
    """Link or make the workers that :func:`find` did not find, in the caller's transaction.

    ``missing`` holds links and e-mails, each with the first actor that named it. However many
    transactions do this at once for the same person, one worker comes of it.
    """
    if not missing:
        return {}
    # A link whose actor also has an e-mail goes to the worker with that e-mail. If there is none
    # yet, one new worker is made for every name in the transaction with that e-mail.
    addresses: dict[WorkerName, Actor] = {}
    for name, actor in missing.items():
        if actor.email is not None:
            addresses.setdefault(_address(name, actor.email), actor)
    known = await find(db, addresses)
    new = {
        address: _NewWorker(address.organization_id, actor, now_us)
        for address, actor in addresses.items()
        if address not in known
    }

    links: dict[WorkerByLink, _NewWorker | Worker] = {}
    for name, actor in missing.items():
        if isinstance(name, WorkerByLink):
            if actor.email is None:
                links[name] = _NewWorker(name.organization_id, actor, now_us)
            else:
                address = _address(name, actor.email)
                links[name] = known.get(address) or new[address]

    # Links come before workers. Only the transaction that inserts a link makes its worker, so a
    # lost race leaves no worker behind.
    inserted = await _insert_links(db, links)
    resolved = await find(db, [link for link in links if link not in inserted])

    wanted = {id(maker): maker for link in inserted if isinstance(maker := links[link], _NewWorker)}
    for name in missing:
        if name in new:
            wanted[id(new[name])] = new[name]
    made = await _insert(db, list(wanted.values()), now_us)

    # Another transaction may have taken an e-mail meanwhile; its worker is used then.
    lost = [
        WorkerByEmail(maker.organization_id, email_key(maker.email))
        for maker in wanted.values()
        if maker.email is not None and maker.worker.id not in made
    ]
    known |= await find(db, lost)
    resolved |= await _point_links(db, {link: links[link] for link in inserted}, made, known)
    for name in missing:
        if isinstance(name, WorkerByEmail):
            resolved[name] = known[name] if name in known else new[name].worker
    return resolved


async def _point_links(
    db: Connection,
    inserted: Mapping[WorkerByLink, _NewWorker | Worker],
    made: Container[UUID],
    known: Mapping[WorkerName, Worker],
) -> dict[WorkerName, Worker]:
    """The workers of inserted links; those whose worker could not be made are redirected."""
    workers: dict[WorkerName, Worker] = {}
    moved: list[tuple[WorkerByLink, Worker]] = []
    for link, maker in inserted.items():
        if isinstance(maker, Worker):
            workers[link] = maker
        elif maker.worker.id in made:
            workers[link] = maker.worker
        else:
            assert maker.email is not None
            workers[link] = known[_address(link, maker.email)]
            moved.append((link, workers[link]))
    await _redirect(db, moved)
    return workers


def _address(name: WorkerName, email: str) -> WorkerByEmail:
    return WorkerByEmail(name.organization_id, email_key(email))


async def _insert_links(
    db: Connection, links: Mapping[WorkerByLink, _NewWorker | Worker]
) -> set[WorkerByLink]:
    if not links:
        return set()
    rows = [
        (link.organization_id, link.app_id, link.external_id, _worker_of(maker).id)
        for link, maker in links.items()
    ]
    cursor = await db.execute(_INSERT_LINKS, tuple(map(list, zip(*rows, strict=True))))
    return {WorkerByLink(*row) for row in await cursor.fetchall()}


def _worker_of(maker: _NewWorker | Worker) -> Worker:
    return maker if isinstance(maker, Worker) else maker.worker


async def _insert(db: Connection, makers: list[_NewWorker], now_us: int) -> set[UUID]:
    if not makers:
        return set()
    cursor = await db.execute(
        _INSERT_WORKERS,
        (
            [maker.organization_id for maker in makers],
            [maker.worker.id for maker in makers],
            [maker.worker.display_name for maker in makers],
            [maker.email for maker in makers],
            [maker.email and email_key(maker.email) for maker in makers],
            [to_datetime(now_us)] * len(makers),
        ),
    )
    return {worker_id for _, worker_id in await cursor.fetchall()}


async def _redirect(db: Connection, moved: list[tuple[WorkerByLink, Worker]]) -> None:
    rows = [
        (link.organization_id, link.app_id, link.external_id, worker.id) for link, worker in moved
    ]
    if rows:
        await db.execute(_REDIRECT_LINKS, tuple(map(list, zip(*rows, strict=True))))
