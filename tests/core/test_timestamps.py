"""Properties of timestamps: what is said is what is meant, one by one and all at once."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from core import timestamps
from tests.support import strategies
from tests.support.strategies import EXAMPLES

usual_texts = strategies.moments.map(timestamps.format_us)
# As a usual one, but for a character or two.
_spoiled_texts = st.builds(
    lambda text, place, less, put: (
        text[: place % len(text)] + put + text[place % len(text) + less :]
    ),
    usual_texts,
    st.integers(0, 27),
    st.integers(0, 2),
    st.sampled_from(
        [*"0123456789-:.+TZtz ,W\0\n\u0664\ud800", "60", "T0", "0Z", "Z0", "+00:00", ""]
    ),
)
any_texts = st.one_of(
    usual_texts,
    _spoiled_texts,
    st.text(),
    st.text(st.sampled_from("0123456789-:.+TZ "), max_size=30),
)


@EXAMPLES
@given(strategies.moments, st.integers(-1439, 1439), st.sampled_from("Tt"), st.booleans())
def test_timestamps_come_back_as_they_went(us: int, offset: int, tee: str, zulu: bool) -> None:
    echo = timestamps.format_us(us)
    assert timestamps.parse(echo) == (us, echo)
    try:
        local = timestamps.to_datetime(us + offset * 60_000_000)
    except OverflowError:
        return
    text = local.isoformat()[:-6].replace("T", tee)
    hours, minutes = divmod(abs(offset), 60)
    sign = "-" if offset < 0 else "+"
    zone = "z" if zulu and not offset else f"{sign}{hours:02}:{minutes:02}"
    assert timestamps.parse(f"{text}{zone}") == (us, echo)


@EXAMPLES
@given(st.text() | st.text(st.sampled_from("0123456789-:.+TZ "), max_size=30))
def test_what_is_no_timestamp_is_a_value_error(text: str) -> None:
    try:
        us, echo = timestamps.parse(text)
    except ValueError:
        pass
    else:
        assert timestamps.parse(echo) == (us, echo)


def _padded(text: str) -> str:
    """As programs write it that always write milliseconds, or microseconds."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<{3 if len(fraction) <= 3 else 6}}Z"


@EXAMPLES
@given(st.lists(usual_texts | usual_texts.map(_padded), max_size=6))
def test_usual_timestamps_are_the_same_together(texts: list[str]) -> None:
    together = timestamps.parse_together(texts)
    assert together is not None
    echoes = timestamps.echo_together(texts)
    assert list(zip(together, echoes, strict=True)) == [timestamps.parse(text) for text in texts]


@EXAMPLES
@given(st.lists(any_texts | usual_texts.map(_padded), max_size=3))
@example(["2026-04-19T12:05:00", "2026-04-19T12:05:00ZZ"])
@example(["2026-04-19t12:05:00Z", "2026-04-19TT12:05:00Z"])
@example(["2026-04-19T12:05:00.120Z", "2026-04-19T12:05:00Z", "2026-04-19T12:05:00.000Z"])
@example(["2026-04-19T12:05:00.1234567Z"])
@example(["2026-04-19T12:05:60Z"])
@example(["2026-04-19T12:05:00\ud800Z"])
@example(["2026-04-19T12:05:00.1\0Z"])
@example(["0000-12-31T23:59:59Z"])
def test_timestamps_together_are_those_parsed_one_by_one(texts: list[str]) -> None:
    together = timestamps.parse_together(texts)
    if together is not None:
        echoes = timestamps.echo_together(texts)
        one_by_one = [timestamps.parse(text) for text in texts]
        assert one_by_one == list(zip(together, echoes, strict=True))
