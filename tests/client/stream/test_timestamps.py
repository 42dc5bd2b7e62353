"""Timestamps mean to the client what they mean to the service."""

from __future__ import annotations

import pytest

from core import timestamps
from wepeople_ingest_client.stream.timestamps import to_timestamp

SAME = [
    "2026-04-19T12:05:00Z",
    "2026-04-19t12:05:00.25z",
    "2026-04-19T14:05:00.123456789+02:00",
    "1969-12-31T23:59:59.999999999Z",
    "2016-12-31T23:59:60Z",
    "2016-12-31T18:59:60.75-05:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "2024-02-29T00:00:00-23:59",
]
NONE = [
    "",
    "yesterday",
    "2026-04-19T12:05:00",
    "2026-04-19 12:05:00Z",
    "2026-04-19T24:00:00Z",
    "2026-04-19T12:60:00Z",
    "2026-04-19T12:05:61Z",
    "2026-02-30T12:05:00Z",
    "0000-01-01T00:00:00Z",
    "2026-04-19T12:05:00+24:00",
    "2026-04-19T12:05:00.Z",
    "2026-04-19T12:05:00Z\n",
    "٢٠٢٦-04-19T12:05:00Z",
]


@pytest.mark.parametrize("text", SAME)
def test_an_instant_is_that_of_the_service(text: str) -> None:
    instant = to_timestamp(text)
    assert instant.ToMicroseconds() == timestamps.parse(text)[0]


@pytest.mark.parametrize("text", NONE)
def test_what_is_refused_is_refused_in_the_words_of_the_service(text: str) -> None:
    with pytest.raises(ValueError, match="must be") as service:
        timestamps.parse(text)
    with pytest.raises(ValueError, match="must be") as client:
        to_timestamp(text)
    assert str(client.value) == str(service.value)


def test_nanoseconds_are_kept() -> None:
    assert to_timestamp("2026-04-19T12:05:00.1234567899Z").nanos == 123_456_789
