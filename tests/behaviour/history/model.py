"""A simple model of the service: says what in a history, or in what is stored, cannot be.

It runs nothing and knows no order of events beyond what clients saw: a request took effect, if at
all, at one moment between its call and its answer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import inf
from uuid import UUID

from core import ids
from core.timestamps import format_us, from_datetime
from tests.behaviour.history.record import (
    WHITELIST,
    Answer,
    Body,
    History,
    Item,
    Operation,
    OrganizationRecord,
)
from tests.behaviour.history.stored import Row, Stored


def violations(history: History, organization: OrganizationRecord, stored: Stored) -> Iterator[str]:
    """Everything of an organization that the contract does not allow."""
    attempts: dict[Body, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        if operation.body.key.organization is organization:
            attempts[operation.body].append(operation)
    for body, operations in attempts.items():
        for operation in operations:
            if operation.answer is not None:
                yield from _admission(operation, operation.answer)
                yield from _judgement(operation, operation.answer)
        yield from _rows(body, operations, stored)
    known = {item.marker for body in attempts for item in body.items}
    for marker in stored.rows.keys() - known:
        yield f"{marker}: stored, and nobody sent it"
    yield from _replays(attempts)
    yield from _quota(organization, attempts, stored)
    yield from _workers(attempts, stored)
    yield from _cards(attempts, stored)


def _shown(operation: Operation) -> str:
    body = operation.body
    return (
        f"{body.endpoint} {body.items[0].marker}+{len(body.items) - 1} by {operation.door} "
        f"[{operation.began:.3f}, {operation.ended:.3f}] key {body.idempotency_key} "
        f"sequence {body.number}: {operation.answer}"
    )


# --- who may write ----------------------------------------------------------------------------


def _admission(operation: Operation, answer: Answer) -> Iterator[str]:
    """A key and a plan are good until they are changed, and no longer than a second after."""
    key, span = operation.body.key, (operation.began, operation.ended)
    possible: set[str | None] = set()
    for revoked in key.revoked.possible(*span):
        for plan in key.organization.plan.possible(*span):
            possible.add("key_revoked" if revoked else None if plan else "plan_disabled")
    refused = answer.code if answer.code in ("key_revoked", "plan_disabled") else None
    if refused not in possible:
        yield f"only {possible} can be: {_shown(operation)}"


# --- each item on its own -----------------------------------------------------------------------


def _judgement(operation: Operation, answer: Answer) -> Iterator[str]:
    """Every item of a first answer has the code it must have."""
    body = operation.body
    if answer.replayed or answer.duplicate or _is_whole(body, answer):
        known = answer.code in (None, "key_revoked", "plan_disabled") or _differs(answer)
        if not known:
            yield f"no such answer can be: {_shown(operation)}"
        return
    codes: dict[int, str] = {index: code for index, code, _ in answer.rejected}
    if body.endpoint == "snapshots" and answer.code is not None:
        codes = {0: answer.code}
    if answer.accepted + len(codes) != len(body.items):
        yield f"items are missing: {_shown(operation)}"
    if not answer.accepted and answer.code not in (None, codes.get(0)):
        yield f"not the code of the first item: {_shown(operation)}"
    whitelisted = body.key.app.whitelisted.possible(operation.began, operation.ended)
    limited = body.key.organization.quota.values != [None]
    full = False
    for index, item in enumerate(body.items):
        code = codes.get(index)
        allowed = {item.verdict}
        if item.verdict is WHITELIST:
            allowed = {None if good else "forbidden_event_type" for good in whitelisted}
        if limited and None in allowed:
            allowed.add("quota_exceeded")
        if code not in allowed:
            yield f"item {index} must be one of {allowed}: {_shown(operation)}"
        full |= code == "quota_exceeded"
        if full and code is None:
            yield f"item {index} overtook one that did not fit: {_shown(operation)}"


def _is_whole(body: Body, answer: Answer) -> bool:
    """Whether the request as a whole was refused."""
    if answer.code in (None, "quota_exceeded") or answer.rejected:
        return False
    return body.endpoint == "events" or answer.code != body.items[0].verdict or _differs(answer)


def _differs(answer: Answer) -> bool:
    return answer.code == "invalid_body" and "different body" in answer.message


# --- stored once, and nothing else --------------------------------------------------------------


def _rows(body: Body, operations: Iterable[Operation], stored: Stored) -> Iterator[str]:
    """What was acknowledged is stored once, as it was echoed; what was refused is not stored."""
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


# --- idempotency ----------------------------------------------------------------------------------


def _replays(attempts: dict[Body, list[Operation]]) -> Iterator[str]:
    """The first that wrote is what every equal request is told; other data never is."""
    scopes: dict[tuple[UUID, str, str], list[Operation]] = defaultdict(list)
    for body, operations in attempts.items():
        if body.idempotency_key is None:
            for operation in operations:
                if operation.answer and operation.answer.replayed:
                    yield f"replayed without a key: {_shown(operation)}"
            continue
        scope = (body.key.tenant.api_key.id, body.endpoint, body.idempotency_key)
        scopes[scope] += operations
    for operations in scopes.values():
        yield from _scope(operations)


def _scope(operations: list[Operation]) -> Iterator[str]:
    writers = [one for one in operations if one.answer and one.answer.wrote]
    lost = [one for one in operations if one.answer is None]
    if len(writers) > 1:
        yield "written twice under one key:\n  " + "\n  ".join(map(_shown, writers))
        return
    successes = [one for one in operations if one.answer and one.answer.accepted]
    bodies = {one.body for one in successes}
    if len(bodies) > 1:
        yield "one key, two answers:\n  " + "\n  ".join(map(_shown, successes))
        return
    told = {one.answer.told for one in successes if one.answer}
    if len(told) > 1:
        yield "not the first answer:\n  " + "\n  ".join(map(_shown, successes))
    exact: dict[str, object] = {}
    for one in successes:
        assert one.answer is not None
        if (
            one.answer.exact is not None
            and exact.setdefault(one.door, one.answer.exact) != one.answer.exact
        ):
            yield f"not byte for byte {exact[one.door]!r}: {_shown(one)}"
    if successes and not writers and not any(one.body in bodies for one in lost):
        yield f"replayed, and nobody wrote it: {_shown(successes[0])}"
    known_from = min((one.ended for one in successes), default=inf)
    could_from = min((one.began for one in [*writers, *lost]), default=inf)
    for one in operations:
        answer = one.answer
        if answer is None or answer.code in ("key_revoked", "plan_disabled"):
            continue
        if _differs(answer):
            others = [w for w in [*writers, *lost] if w.body is not one.body]
            if not others or min(other.began for other in others) > one.ended:
                yield f"no other body was written: {_shown(one)}"
        elif one.began > known_from and one.body in bodies and not answer.replayed:
            yield f"must be a replay: {_shown(one)}"
        elif one.began > known_from and one.body not in bodies and one.body.endpoint == "events":
            yield f"must be told of the other body: {_shown(one)}"
        if answer.replayed and could_from > one.ended:
            yield f"replayed before it was sent: {_shown(one)}"


# --- quota --------------------------------------------------------------------------------


class _Sum:
    """Amounts at moments: how much there was before, and up to, any other moment."""

    def __init__(self, amounts: Iterable[tuple[float, int]]) -> None:
        in_order = sorted(amounts)
        self._moments = [moment for moment, _ in in_order]
        self._sums = list(accumulate((amount for _, amount in in_order), initial=0))

    def before(self, moment: float) -> int:
        return self._sums[bisect_left(self._moments, moment)]

    def until(self, moment: float) -> int:
        return self._sums[bisect_right(self._moments, moment)]


def _quota(
    organization: OrganizationRecord, attempts: dict[Body, list[Operation]], stored: Stored
) -> Iterator[str]:
    """Never one over, never one short: a refusal needs a full quota at a moment of its own."""
    if stored.used != stored.count:
        yield f"{stored.used} are charged, {stored.count} are stored"
    values = organization.quota.values
    limits = [value for value in values if value is not None]
    if len(limits) < len(values):
        return
    if stored.used > max(limits):
        yield f"{stored.used} are charged, the quota never was over {max(limits)}"
    spans: dict[Body, tuple[float, float, int]] = {}
    for body, operations in attempts.items():
        charge = sum(len(stored.rows.get(item.marker, ())) for item in body.items)
        ends = [one.ended for one in operations if one.answer and _knows(one.answer)]
        began = min(one.began for one in operations)
        spans[body] = (began, min(ends, default=inf), charge)
    possibly = _Sum((began, charge) for began, _, charge in spans.values())
    certainly = _Sum((ended, charge) for _, ended, charge in spans.values())
    for body, operations in attempts.items():
        began, ended, charge = spans[body]
        highest = _bounds(organization, began, ended)[1]
        if charge and certainly.before(began) + charge > highest:
            yield f"over the quota of {highest}: {_shown(operations[0])}"
        for one in operations:
            answer = one.answer
            if answer is None or answer.replayed:
                continue
            codes = {code for _, code, _ in answer.rejected} | {answer.code}
            lowest = _bounds(organization, one.began, one.ended)[0]
            most = possibly.until(one.ended)
            if "quota_exceeded" in codes and most < lowest:
                yield f"refused, with at most {most} of {lowest} charged: {_shown(one)}"
            if answer.quota_left is not None and len(limits) == 1:
                own = 0 if answer.duplicate else answer.accepted
                least = certainly.before(one.began) + own
                if not limits[0] - most <= answer.quota_left <= limits[0] - least:
                    yield f"{least} to {most} of {limits[0]} were charged: {_shown(one)}"
    if len(limits) == 1 and stored.used < limits[0]:
        for one in (one for operations in attempts.values() for one in operations):
            if one.answer and "quota_exceeded" in {code for _, code, _ in one.answer.rejected}:
                yield f"refused, and only {stored.used} of {limits[0]} are used: {_shown(one)}"


def _knows(answer: Answer) -> bool:
    return answer.accepted > 0 or answer.duplicate


def _bounds(organization: OrganizationRecord, began: float, ended: float) -> tuple[int, int]:
    possible = [one for one in organization.quota.possible(began, ended) if one is not None]
    return min(possible), max(possible)


# --- workers and cards ----------------------------------------------------------------------------


def _workers(attempts: dict[Body, list[Operation]], stored: Stored) -> Iterator[str]:
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
            email = actor.get("email", "").lower()
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
                    yield f"stored for another worker than was told: {_shown(one)}"
    for name, workers in named.items():
        if len(workers) != 1:
            yield f"{name} is {len(workers)} workers: {workers}"
    if seen != stored.workers:
        yield f"workers of no event: {stored.workers - seen}; unknown: {seen - stored.workers}"


def _uuid(worker_id: str) -> UUID:
    parsed = ids.parse(ids.WORKER, worker_id)
    assert parsed is not None
    return parsed


def _cards(attempts: dict[Body, list[Operation]], stored: Stored) -> Iterator[str]:
    """A card is the newest snapshot; of equals, one that no other is known to have followed."""
    versions: dict[tuple[UUID, UUID, str], list[tuple[Row, str, float, float]]] = defaultdict(list)
    for body, operations in attempts.items():
        if body.endpoint != "snapshots":
            continue
        marker = body.items[0].marker
        for row in stored.rows.get(marker, ()):
            began = min(one.began for one in operations)
            ends = [one.ended for one in operations if one.answer and _knows(one.answer)]
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
