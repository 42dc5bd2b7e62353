"""The model of an answer on its own: whether the caller was let in, and each item judged right."""

from __future__ import annotations

from collections.abc import Iterator

from tests.behaviour.history.record import WHITELIST, Answer, Attempts, Body, Operation

REFUSALS_OF_CALLERS = ("key_revoked", "plan_disabled")


def check_answers(attempts: Attempts) -> Iterator[str]:
    """Every answer is one that the contract allows for its request at its time."""
    for operations in attempts.values():
        for operation in operations:
            if operation.answer is not None:
                yield from _caller(operation, operation.answer)
                yield from _items(operation, operation.answer)


def _caller(operation: Operation, answer: Answer) -> Iterator[str]:
    """A key and a plan are good until they are changed, and no longer than a second after."""
    key, span = operation.body.key, (operation.began, operation.ended)
    possible: set[str | None] = set()
    for revoked in key.revoked.possible(*span):
        for plan in key.organization.plan.possible(*span):
            possible.add("key_revoked" if revoked else None if plan else "plan_disabled")
    refused = answer.code if answer.code in REFUSALS_OF_CALLERS else None
    if refused not in possible:
        yield f"only {possible} can be: {operation}"


def _items(operation: Operation, answer: Answer) -> Iterator[str]:
    """Every item of a first answer has the code it must have."""
    body = operation.body
    if answer.replayed or answer.duplicate or _is_whole(body, answer):
        known = answer.code in (None, *REFUSALS_OF_CALLERS) or answer.names_other_body
        if not known:
            yield f"no such answer can be: {operation}"
        return
    codes: dict[int, str] = {index: code for index, code, _ in answer.rejected}
    if body.endpoint == "snapshots" and answer.code is not None:
        codes = {0: answer.code}
    if answer.accepted + len(codes) != len(body.items):
        yield f"items are missing: {operation}"
    if not answer.accepted and answer.code not in (None, codes.get(0)):
        yield f"not the code of the first item: {operation}"
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
            yield f"item {index} must be one of {allowed}: {operation}"
        full |= code == "quota_exceeded"
        if full and code is None:
            yield f"item {index} overtook one that did not fit: {operation}"


def _is_whole(body: Body, answer: Answer) -> bool:
    """Whether the request as a whole was refused."""
    if answer.code in (None, "quota_exceeded") or answer.rejected:
        return False
    return (
        body.endpoint == "events" or answer.code != body.items[0].verdict or answer.names_other_body
    )
