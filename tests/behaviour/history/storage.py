"""The model of what is stored: items once, for the worker they name, and the newest as cards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from math import inf
from uuid import UUID

from core import ids
from core.timestamps import format_us, from_datetime
from tests.behaviour.history.record import WHITELIST, Attempts, Body, Item, Operation
from tests.behaviour.history.stored import Row, Stored


def check_rows(attempts: Attempts, stored: Stored) -> Iterator[str]:
    """Every item that was sent is stored as its answers say, and no other is stored."""
    for body, operations in attempts.items():
        yield from _rows(body, operations, stored)
    known = {item.marker for body in attempts for item in body.items}
    for marker in stored.rows.keys() - known:
        yield f"{marker}: stored, and nobody sent it"


def _rows(body: Body, operations: Iterable[Operation], stored: Stored) -> Iterator[str]:
    """An accepted item is stored once, as it was echoed; a refused one is not stored."""
    answers = [one.answer for one in operations if one.answer is not None]
    writers = [answer for answer in answers if answer.wrote]
    if len(writers) > 1:
        yield f"written more than once: {body.items[0].marker}: {writers}"
    sequence = stored.sequences.get((body.key.app.id, body.producer_id or ""), 0)
    passed = body.number > 0 and body.number <= sequence
    duplicate = any(answer.duplicate for answer in answers)
    if body.number and not passed and (writers or duplicate):
        yield f"sequence {body.number} was acked, {sequence} is stored: {body.items[0].marker}"
    told = next((answer for answer in answers if answer.accepted and not answer.duplicate), None)
    refused = {index for index, _, _ in told.rejected} if told else set()
    echoes = iter(told.echoes) if told and told.echoes is not None else None
    judged = any(answer.code is None and not answer.duplicate for answer in answers)
    lost = duplicate or any(one.answer is None for one in operations)
    for index, item in enumerate(body.items):
        rows = stored.rows.get(item.marker, [])
        if told is not None:
            expected = {0} if index in refused else {1}
        elif body.number:
            expected = _untold(item, body, judged) if passed else {0}
        else:
            expected = _untold(item, body, judged=False) if lost else {0}
        if len(rows) not in expected:
            yield f"{item.marker}: stored {len(rows)} times, not {expected}: {answers}"
        for row in rows:
            if row["app_id"] != body.key.app.id:
                yield f"{item.marker}: stored for another app"
        if expected == {1} and echoes is not None and body.endpoint == "events":
            echo = next(echoes, None)
            stamps = {format_us(from_datetime(row["occurred_at"])) for row in rows}
            if echo is None or echo[0] != item.json["eventType"] or stamps - {echo[1]}:
                yield f"{item.marker}: echoed {echo}, stored {rows}"


def _untold(item: Item, body: Body, judged: bool) -> set[int]:
    """How often an item may be stored whose answer was lost, if it was the one that counts."""
    if judged or item.verdict not in (None, WHITELIST):
        return {0}
    # A committed sequence says that the batch was judged: without a quota that is enough.
    certain = body.number and body.key.organization.quota.values == [None]
    return {1} if certain and item.verdict is None else {0, 1}


def check_workers(attempts: Attempts, stored: Stored) -> Iterator[str]:
    """One worker for each external id of an app and for each e-mail, and nobody besides."""
    named: dict[object, set[UUID]] = defaultdict(set)
    seen: set[UUID] = set()
    for body, operations in attempts.items():
        for item in body.items:
            workers = {row["worker_id"] for row in stored.rows.get(item.marker, ())}
            if not workers:
                continue
            seen |= workers
            actor = item.actor
            email = actor.get("email", "").casefold()
            if "workerId" in actor:
                named[actor["workerId"]] |= workers | {_uuid(actor["workerId"])}
            elif "externalId" in actor:
                link = (body.key.app.id, actor["externalId"])
                named[link] |= workers | {stored.links.get(link, UUID(int=0))}
                if actor["externalId"].startswith("both-"):
                    named[email] |= workers
            else:
                named[email] |= workers
        for one in operations:
            if one.answer and one.answer.worker_id:
                rows = stored.rows.get(body.items[0].marker, ())
                if any(row["worker_id"] != _uuid(one.answer.worker_id) for row in rows):
                    yield f"stored for another worker than was told: {one}"
    for name, workers in named.items():
        if len(workers) != 1:
            yield f"{name} is {len(workers)} workers: {workers}"
    if seen != stored.workers:
        yield f"workers of no event: {stored.workers - seen}; unknown: {seen - stored.workers}"


def _uuid(worker_id: str) -> UUID:
    parsed = ids.parse(ids.WORKER, worker_id)
    assert parsed is not None
    return parsed


def check_cards(attempts: Attempts, stored: Stored) -> Iterator[str]:
    """A card is the newest snapshot; of equals, one that no other is known to have followed."""
    versions: dict[tuple[UUID, UUID, str], list[tuple[Row, str, float, float]]] = defaultdict(list)
    for body, operations in attempts.items():
        if body.endpoint != "snapshots":
            continue
        marker = body.items[0].marker
        for row in stored.rows.get(marker, ()):
            began = min(one.began for one in operations)
            ends = [one.ended for one in operations if one.answer and one.answer.proves_commit]
            card = (row["app_id"], row["worker_id"], row["snapshot_type"])
            versions[card].append((row, marker, began, min(ends, default=inf)))
    if versions.keys() != stored.cards.keys():
        yield f"cards of no snapshot, or none of one: {versions.keys() ^ stored.cards.keys()}"
    for card, its_versions in versions.items():
        newest = max(row["occurred_at"] for row, *_ in its_versions)
        last = [version for version in its_versions if version[0]["occurred_at"] == newest]
        latest_began = max(began for _, _, began, _ in last)
        possible = {marker for _, marker, _, ended in last if ended >= latest_began}
        if stored.cards.get(card) not in possible:
            yield f"card {card} is {stored.cards.get(card)}, not one of {possible}"
