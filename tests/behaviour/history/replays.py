"""The model of idempotency: one answer for equal requests under one key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import inf
from uuid import UUID

from tests.behaviour.history.answers import REFUSALS_OF_CALLERS
from tests.behaviour.history.record import Attempts, Operation


def check_replays(attempts: Attempts) -> Iterator[str]:
    """Every equal request is told the answer of the first that wrote; other data never is."""
    scopes: dict[tuple[UUID, str, str], list[Operation]] = defaultdict(list)
    for body, operations in attempts.items():
        if body.idempotency_key is None:
            for operation in operations:
                if operation.answer and operation.answer.replayed:
                    yield f"replayed without a key: {operation}"
            continue
        scope = (body.key.tenant.api_key.id, body.endpoint, body.idempotency_key)
        scopes[scope] += operations
    for operations in scopes.values():
        yield from _scope(operations)


def _scope(operations: list[Operation]) -> Iterator[str]:
    """The requests of one idempotency key have one writer, and its answer."""
    writers = [one for one in operations if one.answer and one.answer.wrote]
    lost = [one for one in operations if one.answer is None]
    if len(writers) > 1:
        yield "written twice under one key:\n  " + "\n  ".join(map(str, writers))
        return
    successes = [one for one in operations if one.answer and one.answer.accepted]
    bodies = {one.body for one in successes}
    if len(bodies) > 1:
        yield "one key, two answers:\n  " + "\n  ".join(map(str, successes))
        return
    told = {one.answer.told for one in successes if one.answer}
    if len(told) > 1:
        yield "not the first answer:\n  " + "\n  ".join(map(str, successes))
    exact: dict[str, object] = {}
    for one in successes:
        assert one.answer is not None
        if (
            one.answer.exact is not None
            and exact.setdefault(one.protocol, one.answer.exact) != one.answer.exact
        ):
            yield f"not byte for byte {exact[one.protocol]!r}: {one}"
    if successes and not writers and not any(one.body in bodies for one in lost):
        yield f"replayed, and nobody wrote it: {successes[0]}"
    known_from = min((one.ended for one in successes), default=inf)
    could_from = min((one.began for one in [*writers, *lost]), default=inf)
    for one in operations:
        answer = one.answer
        if answer is None or answer.code in REFUSALS_OF_CALLERS:
            continue
        if answer.names_other_body:
            others = [w for w in [*writers, *lost] if w.body is not one.body]
            if not others or min(other.began for other in others) > one.ended:
                yield f"no other body was written: {one}"
        elif one.began > known_from and one.body in bodies and not answer.replayed:
            yield f"must be a replay: {one}"
        elif one.began > known_from and one.body not in bodies and one.body.endpoint == "events":
            yield f"must be told of the other body: {one}"
        if answer.replayed and could_from > one.ended:
            yield f"replayed before it was sent: {one}"
