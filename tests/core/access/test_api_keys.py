"""Digests of API keys."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from core.access.api_keys import Digester, digest
from tests.support.strategies import EXAMPLES


@EXAMPLES
@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=200))
@example("wp_live_", b"s" * 64)
@example("wp_live_", b"s" * 65)
def test_a_digester_digests_as_is_stored(key: str, secret: bytes) -> None:
    digester = Digester(secret)
    assert [digester.digest(key) for _ in range(2)] == [digest(key, secret)] * 2
