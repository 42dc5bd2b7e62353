"""The bound of unknown secrets by address."""

from __future__ import annotations

import contextlib

import pytest

from core.admin.operators import TokenRefusedError
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
        with pytest.raises(TokenRefusedError), bound.attempt(address, "unknown"):
            raise TokenRefusedError


def check(bound: Attempts, address: str, secret: str) -> None:
    with bound.attempt(address, secret):
        pass


def test_those_that_are_looked_up_at_once_are_bounded_too(bound: Attempts) -> None:
    with contextlib.ExitStack() as looked_up:
        for number in range(MAX_UNKNOWN_A_MINUTE):
            looked_up.enter_context(bound.attempt("192.0.2.1", f"unknown {number}"))
        with pytest.raises(TooManyAttemptsError):
            check(bound, "192.0.2.1", "unknown")
    check(bound, "192.0.2.1", "unknown")  # all of them were good


def test_what_cannot_be_looked_up_counts_for_nothing(bound: Attempts) -> None:
    for _ in range(MAX_UNKNOWN_A_MINUTE + 1):
        with pytest.raises(TimeoutError), bound.attempt("192.0.2.1", "unknown"):
            raise TimeoutError


def test_a_secret_that_is_no_longer_good_is_counted_like_any(bound: Attempts) -> None:
    check(bound, "192.0.2.1", "ended")
    for _ in range(MAX_UNKNOWN_A_MINUTE + 1):
        with pytest.raises(TokenRefusedError), bound.attempt("192.0.2.1", "ended"):
            raise TokenRefusedError
    with pytest.raises(TooManyAttemptsError):
        check(bound, "192.0.2.1", "ended")


def test_an_address_waits_for_the_end_of_its_minute(bound: Attempts, time: ManualTime) -> None:
    exhaust(bound, "192.0.2.1")
    time.advance(20)
    with pytest.raises(TooManyAttemptsError) as refused:
        check(bound, "192.0.2.1", "unknown")
    assert refused.value.retry_after_seconds == 40
    check(bound, "192.0.2.2", "unknown")
    time.advance(40)
    exhaust(bound, "192.0.2.1")


def test_known_secrets_go_on(bound: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_KNOWN", 2)
    for secret in ("a", "b", "a", "c"):
        bound.note_known(secret)
    exhaust(bound, "192.0.2.1")
    for secret in ("a", "c"):
        check(bound, "192.0.2.1", secret)
    with pytest.raises(TooManyAttemptsError):  # that the others have pushed out
        check(bound, "192.0.2.1", "b")


def test_the_addresses_of_one_site_are_one_party(bound: Attempts) -> None:
    exhaust(bound, "2001:db8::1")
    with pytest.raises(TooManyAttemptsError):
        check(bound, "2001:db8::2", "unknown")
    check(bound, "2001:db8:0:1::1", "unknown")
    exhaust(bound, "")  # of a socket without addresses


def test_the_oldest_address_gives_way(bound: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_ADDRESSES", 2)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        exhaust(bound, address)
    for address in ("192.0.2.2", "192.0.2.3"):
        with pytest.raises(TooManyAttemptsError):
            check(bound, address, "unknown")
    check(bound, "192.0.2.1", "unknown")
