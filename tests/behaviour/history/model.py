"""A simple model of the service: says what in a history, or in what is stored, cannot be.

It runs nothing and knows no order of events beyond what clients saw: a request took effect, if at
all, at one moment between its call and its answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.behaviour.history.answers import check_answers
from tests.behaviour.history.quota import check_quota
from tests.behaviour.history.record import Body, History, Operation, OrganizationRecord
from tests.behaviour.history.replays import check_replays
from tests.behaviour.history.storage import check_cards, check_rows, check_workers
from tests.behaviour.history.stored import Stored


def violations(history: History, organization: OrganizationRecord, stored: Stored) -> Iterator[str]:
    """Everything of an organization that the contract does not allow."""
    attempts: dict[Body, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        if operation.body.key.organization is organization:
            attempts[operation.body].append(operation)
    yield from check_answers(attempts)
    yield from check_rows(attempts, stored)
    yield from check_replays(attempts)
    yield from check_quota(organization, attempts, stored)
    yield from check_workers(attempts, stored)
    yield from check_cards(attempts, stored)
