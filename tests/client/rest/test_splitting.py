"""Lists cut into requests: sizes to the byte, order, keys."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tenant import event
from wepeople_ingest_client.limits import MAX_REQUEST_BYTES
from wepeople_ingest_client.rest.splitting import part_keys, split

SMALLEST = len(b'{"events":[]}') + len(json.dumps(event(metadata={"t": ""}), separators=(",", ":")))


def sized(size: int) -> dict[str, object]:
    """An event whose request is of that many bytes."""
    return event(metadata={"t": "x" * (size - SMALLEST)})


def test_nothing() -> None:
    assert split([]) == []


def test_to_the_byte() -> None:
    (part,) = split([sized(MAX_REQUEST_BYTES)])
    assert len(part.body) == MAX_REQUEST_BYTES
    with pytest.raises(ValueError, match=r"^events\[1\]: makes a request of 1,048,577 bytes"):
        split([event(), sized(MAX_REQUEST_BYTES + 1)])
    small = sized(SMALLEST)
    rest = MAX_REQUEST_BYTES - len(split([small, small])[0].body) + len(split([small])[0].body)
    (part,) = split([small, sized(rest)])
    assert len(part.body) == MAX_REQUEST_BYTES
    assert [len(one.places) for one in split([small, sized(rest + 1)])] == [1, 1]


@settings(deadline=None)  # 20 MiB are written and read
@given(st.lists(st.sampled_from([SMALLEST, 5_000, 400_000, MAX_REQUEST_BYTES]), max_size=20))
def test_parts_are_the_list(sizes: list[int]) -> None:
    parts = split(sized(size) for size in sizes)
    assert [place for part in parts for place in part.places] == list(range(len(sizes)))
    sent = [one for part in parts for one in json.loads(part.body)["events"]]
    assert sent == [sized(size) for size in sizes]
    assert all(part.places and len(part.body) <= MAX_REQUEST_BYTES for part in parts)


def test_keys() -> None:
    assert part_keys("k", 0) == []
    assert part_keys("k" * 200, 1) == ["k" * 200]
    assert part_keys("k" * 198, 2) == ["k" * 198 + "-1", "k" * 198 + "-2"]
    with pytest.raises(ValueError, match="at most 197 characters for 10 requests"):
        part_keys("k" * 198, 10)
