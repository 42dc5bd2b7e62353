"""The places of connections: who gives way to a newcomer, and who does not."""

from __future__ import annotations

import itertools
from functools import partial

from core.access.fair_queue import STRANGERS
from http_api.connections import NEWCOMER_SECONDS, Connections

ONE, OTHER = 2, 3


class FakeConnection:
    """A connection that only knows whether it was evicted, and whether its key is known."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        self.client: tuple[str, int] | None = (address, 1)
        self.evicted = False
        self.authenticated = False

    def is_authenticated(self) -> bool:
        """As the test says."""
        return self.authenticated

    def evict(self) -> None:
        """Note it."""
        self.evicted = True


def full_house(size: int, seconds: float = 100.0) -> tuple[Connections, list[FakeConnection]]:
    """So many strangers, and places whose clock goes on by so much at each look."""
    places = Connections(size, seconds=partial(next, itertools.count(step=seconds)))
    those = [FakeConnection() for _ in range(size)]
    assert all(places.add(one) for one in those)
    return places, those


def evicted(those: list[FakeConnection]) -> list[int]:
    return [number for number, one in enumerate(those) if one.evicted]


def test_who_never_authenticated_gives_way_first_and_of_those_the_longest_idle() -> None:
    places, those = full_house(4)
    for number, flow in ((0, ONE), (1, None)):
        places.begin_request(those[number])
        places.end_request(those[number], flow)
    for expected in ([2], [2, 3], [1, 2, 3]):
        newcomer = FakeConnection()
        assert places.add(newcomer)
        places.begin_request(newcomer)
        assert evicted(those) == expected


def test_then_the_longest_idle_of_the_organization_that_holds_most() -> None:
    places, those = full_house(5)
    for one, flow in zip(those, (OTHER, ONE, ONE, OTHER, ONE), strict=True):
        places.begin_request(one)
        places.end_request(one, flow)
    places.begin_request(those[1])
    places.end_request(those[1], None)  # an answer to no known key: it stays the organization's
    newcomers = [FakeConnection() for _ in range(2)]
    for newcomer, expected in zip(newcomers, ([2], [0, 2]), strict=True):
        assert places.add(newcomer)
        places.begin_request(newcomer)
        newcomer.authenticated = True
        assert evicted(those) == expected
    assert len(places) == 5


def test_strangers_whose_requests_wait_give_way_before_any_organization_is_touched() -> None:
    places, those = full_house(4)
    places.begin_request(those[0])
    places.end_request(those[0], ONE)
    for number in (2, 1):
        places.begin_request(those[number])
    for expected in ([3], [2, 3], [1, 2, 3]):
        assert places.add(FakeConnection())
        assert evicted(those) == expected


def test_a_newcomer_stays_until_all_that_came_before_have_given_way() -> None:
    places, those = full_house(50)
    newcomer = FakeConnection()
    assert places.add(newcomer)
    for _ in range(49):
        crowd = FakeConnection()
        assert places.add(crowd)
        places.begin_request(crowd)
    assert not newcomer.evicted
    assert all(one.evicted for one in those)


def test_a_newcomer_does_not_give_way_to_the_crowd_of_an_organization() -> None:
    places, those = full_house(4, seconds=NEWCOMER_SECONDS / 100)
    for one in those[:3]:
        places.begin_request(one)
        places.end_request(one, ONE)
    for expected in ([0], [0, 1]):
        crowd = FakeConnection()
        assert places.add(crowd)
        places.begin_request(crowd)
        places.end_request(crowd, ONE)
        assert evicted(those) == expected


def test_nobody_gives_way_in_the_middle_of_a_request_with_a_known_key() -> None:
    places, those = full_house(2)
    for one in those:
        places.begin_request(one)
        one.authenticated = True
    assert not places.add(FakeConnection())
    assert evicted(those) == []
    places.end_request(those[1], STRANGERS)
    those[1].authenticated = False
    assert places.add(FakeConnection())
    assert evicted(those) == [1]


def test_what_has_ended_leaves_nothing_behind() -> None:
    places, those = full_house(3)
    for one, flow in zip(those, (ONE, OTHER, None), strict=True):
        places.begin_request(one)
        places.end_request(one, flow)
    for one in [*those, *those]:
        places.remove(one)
        places.end_request(one, ONE)
    assert len(places) == 0
    assert not places.evict()
    assert evicted(those) == []
    assert [places._held, places._idle, places._addresses] == [{}, {}, {}]


def test_one_address_holds_no_more_than_it_may() -> None:
    places = Connections(10, most_per_address=2)
    first, second = FakeConnection("192.0.2.1"), FakeConnection("192.0.2.1")
    assert places.add(first)
    assert places.add(second)
    assert not places.add(FakeConnection("192.0.2.1"))
    assert places.add(FakeConnection("192.0.2.2"))
    places.remove(first)
    assert places.add(FakeConnection("192.0.2.1"))
