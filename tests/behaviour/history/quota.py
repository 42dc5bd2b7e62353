"""The model of quotas: never one event over, never one short."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import inf

from tests.behaviour.history.record import Attempts, Body, OrganizationRecord
from tests.behaviour.history.stored import Stored


class _Sum:
    """Amounts at moments: how much there was before, and up to, any other moment."""

    def __init__(self, amounts: Iterable[tuple[float, int]]) -> None:
        in_order = sorted(amounts)
        self._moments = [moment for moment, _ in in_order]
        self._sums = list(accumulate((amount for _, amount in in_order), initial=0))

    def before(self, moment: float) -> int:
        return self._sums[bisect_left(self._moments, moment)]

    def up_to(self, moment: float) -> int:
        return self._sums[bisect_right(self._moments, moment)]


def check_quota(
    organization: OrganizationRecord, attempts: Attempts, stored: Stored
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
        ends = [one.ended for one in operations if one.answer and one.answer.proves_commit]
        began = min(one.began for one in operations)
        spans[body] = (began, min(ends, default=inf), charge)
    possibly = _Sum((began, charge) for began, _, charge in spans.values())
    certainly = _Sum((ended, charge) for _, ended, charge in spans.values())
    for body, operations in attempts.items():
        began, ended, charge = spans[body]
        highest = _bounds(organization, began, ended)[1]
        if charge and certainly.before(began) + charge > highest:
            yield f"over the quota of {highest}: {operations[0]}"
        for one in operations:
            answer = one.answer
            if answer is None or answer.replayed:
                continue
            codes = {code for _, code, _ in answer.rejected} | {answer.code}
            lowest = _bounds(organization, one.began, one.ended)[0]
            most = possibly.up_to(one.ended)
            if "quota_exceeded" in codes and most < lowest:
                yield f"refused, with at most {most} of {lowest} charged: {one}"
            if answer.quota_left is not None and len(limits) == 1:
                own = 0 if answer.duplicate else answer.accepted
                least = certainly.before(one.began) + own
                if not limits[0] - most <= answer.quota_left <= limits[0] - least:
                    yield f"{least} to {most} of {limits[0]} were charged: {one}"
    if len(limits) == 1 and stored.used < limits[0]:
        for one in (one for operations in attempts.values() for one in operations):
            if one.answer and "quota_exceeded" in {code for _, code, _ in one.answer.rejected}:
                yield f"refused, and only {stored.used} of {limits[0]} are used: {one}"


def _bounds(organization: OrganizationRecord, began: float, ended: float) -> tuple[int, int]:
    possible = [one for one in organization.quota.possible(began, ended) if one is not None]
    return min(possible), max(possible)
