"""The bound of unknown secrets by address."""

from __future__ import annotations

import pytest

from http_api import attempts
from http_api.attempts import MAX_UNKNOWN_A_MINUTE, Attempts, TooManyAttemptsError
from tests.support.manual_time import ManualTime


@pytest.fixture
def time() -> ManualTime:
    return ManualTime()


@pytest.fixture
def bound(time: ManualTime) -> Attempts:
    return Attempts(time.clock.monotonic)


def exhaust(bound: Attempts, address: str) -> None:
    for _ in range(MAX_UNKNOWN_A_MINUTE):
        bound.check(address, "unknown")
        bound.note_unknown(address)


def test_an_address_waits_for_the_end_of_its_minute(bound: Attempts, time: ManualTime) -> None:
    exhaust(bound, "192.0.2.1")
    time.advance(20)
    with pytest.raises(TooManyAttemptsError) as refused:
        bound.check("192.0.2.1", "unknown")
    assert refused.value.retry_after_seconds == 40
    bound.check("192.0.2.2", "unknown")
    time.advance(40)
    exhaust(bound, "192.0.2.1")


def test_known_secrets_go_on(bound: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_KNOWN", 2)
    for secret in ("a", "b", "a", "c"):
        bound.note_known(secret)
    exhaust(bound, "192.0.2.1")
    for secret in ("a", "c"):
        bound.check("192.0.2.1", secret)
    with pytest.raises(TooManyAttemptsError):  # that the others have pushed out
        bound.check("192.0.2.1", "b")


def test_the_addresses_of_one_site_are_one_party(bound: Attempts) -> None:
    exhaust(bound, "2001:db8::1")
    with pytest.raises(TooManyAttemptsError):
        bound.check("2001:db8::2", "unknown")
    bound.check("2001:db8:0:1::1", "unknown")
    exhaust(bound, "")  # of a socket without addresses


def test_the_oldest_address_gives_way(bound: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_ADDRESSES", 2)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        exhaust(bound, address)
    bound.check("192.0.2.1", "unknown")
    for address in ("192.0.2.2", "192.0.2.3"):
        with pytest.raises(TooManyAttemptsError):
            bound.check(address, "unknown")
