"""The workers of one transaction: recalled, then looked up, and made where they are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.journal import workers
from core.journal.pending import PendingRequest
from core.journal.workers import WorkerCache
from core.models import Actor, Worker, WorkerName
from core.postgres.sessions import Connection


class WorkerStep:
    """Recalls the workers of the requests; :meth:`find` and :meth:`provide` see to the others.

    ``knows_all``: none has to be asked for. ``resolved``: the workers that were.
    """

    def __init__(self, requests: Sequence[PendingRequest], cache: WorkerCache, now_us: int) -> None:
        self._now_us = now_us
        self._incomplete = [request for request in requests if not request.recall(cache.get)]
        self.knows_all = not self._incomplete
        self.resolved: dict[WorkerName, Worker] = {}

    async def find(self, db: Connection) -> None:
        """Ask for the other workers; reject the items of those that do not exist."""
        self._incomplete = [request for request in self._incomplete if request.replay is None]
        missing: dict[WorkerName, Actor] = {}
        for request in self._incomplete:
            for name, actor, worker in zip(
                request.names, request.actors, request.workers, strict=True
            ):
                if worker is None:
                    missing.setdefault(name, actor)
        self.resolved = _by_names(missing, await workers.find(db, missing))
        for request in self._incomplete:
            request.learn(self.resolved)
            request.reject_unknown_workers()

    async def provide(self, db: Connection) -> None:
        """Make workers that do not exist yet, but none for items that are rejected."""
        needed: dict[WorkerName, Actor] = {}
        for request in self._incomplete:
            for actor_index in dict.fromkeys(
                map(request.actor_indexes.__getitem__, request.accepted)
            ):
                if request.workers[actor_index] is None:
                    needed.setdefault(request.names[actor_index], request.actors[actor_index])
        self.resolved |= _by_names(needed, await workers.provide(db, needed, self._now_us))
        for request in self._incomplete:
            request.learn(self.resolved)


def _by_names(
    asked: Iterable[WorkerName], found: Mapping[WorkerName, Worker]
) -> dict[WorkerName, Worker]:
    """What was found, under the very names that were asked for.

    They come again with the next requests, and an object is compared with itself at once, while
    equal ids of the database are compared in Python.
    """
    return {name: found[name] for name in asked if name in found}
