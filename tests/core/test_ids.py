"""Properties of ids: they come back as they went, and sort by time."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from core import ids, timestamps
from tests.support.strategies import EXAMPLES


@EXAMPLES
@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1))
def test_ids_come_back_and_sort_as_their_text(one: int, other: int) -> None:
    for bits in (one, other):
        text = ids.text(ids.EVENT, UUID(int=bits))
        assert ids.parse(ids.EVENT, text) == UUID(int=bits)
        assert ids.parse(ids.WORKER, text) is None
    assert (one < other) == (ids.encode(one) < ids.encode(other))


@EXAMPLES
@given(st.integers(0, timestamps.MAX_US))
def test_ids_carry_their_millisecond(us: int) -> None:
    made = ids.new(us)
    assert ids.created_us(made) == us // 1_000 * 1_000
    assert ids.first_at(us) <= made


@EXAMPLES
@given(st.integers(0, timestamps.MAX_US))
def test_request_ids_are_ids_of_their_own(us: int) -> None:
    made = [ids.parse(ids.REQUEST, ids.new_request_id(us)) for _ in range(2)]
    assert made[0] != made[1]
    assert {made_id and ids.created_us(made_id) for made_id in made} == {us // 1_000 * 1_000}


@EXAMPLES
@given(st.text())
def test_what_is_no_id_is_none(text: str) -> None:
    found = ids.parse(ids.WORKER, text)
    assert found is None or ids.text(ids.WORKER, found) == text
