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
    texts = [ids.text(ids.EVENT, UUID(int=bits)) for bits in (one, other)]
    for bits, text in zip((one, other), texts, strict=True):
        assert ids.parse(ids.EVENT, text) == UUID(int=bits)
        assert ids.parse(ids.WORKER, text) is None
    assert (one < other) == (texts[0] < texts[1])


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
@given(st.integers(0, timestamps.MAX_US))
def test_a_batch_counts_up_within_the_last_half_of_its_ids(us: int) -> None:
    first = UUID(int=ids.first_of_batch(us))
    last = UUID(int=first.int + 2**63 - 1)
    assert first.bytes[:8] == last.bytes[:8]
    assert ids.created_us(first) == us // 1_000 * 1_000


def test_an_id_has_the_spelling_of_the_ulid_specification() -> None:
    # https://github.com/ulid/spec: the first and the last that there is
    assert ids.text(ids.EVENT, UUID(int=0)) == "evt_" + "0" * 26
    assert ids.text(ids.EVENT, UUID(int=2**128 - 1)) == "evt_7" + "Z" * 25
    assert ids.parse(ids.EVENT, "evt_8" + "0" * 25) is None
    assert ids.parse(ids.EVENT, "evt_" + "i" * 26) is None


@EXAMPLES
@given(st.text())
def test_what_is_no_id_is_none(text: str) -> None:
    found = ids.parse(ids.WORKER, text)
    assert found is None or ids.text(ids.WORKER, found) == text
