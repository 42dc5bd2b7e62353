"""What a page of metrics says of requests."""

from __future__ import annotations

import re

from core.counters import ENDPOINT_CODES

_SERIES = re.compile(
    r'^wepeople_requests_total\{code="(\w+)",endpoint="(\w+)",protocol="(\w+)"\}', re.MULTILINE
)


def made_later(page: str) -> set[tuple[str, str, str]]:
    """The protocol, endpoint and code of series of requests that nobody has foreseen."""
    expected = {(*labels, str(code)) for labels, codes in ENDPOINT_CODES.items() for code in codes}
    found = {(protocol, endpoint, code) for code, endpoint, protocol in _SERIES.findall(page)}
    assert found, "the page has requests"
    return found - expected
