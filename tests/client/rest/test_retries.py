"""The choice to send again, by a clock of the test's own: no I/O."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from core.error_codes import CATALOGUE, ErrorCode
from http_api.errors import HTTP_STATUS
from wepeople_ingest_client import ApiError, NoAnswerError, Retries, Retry
from wepeople_ingest_client.codes import RETRY_BY_CODE
from wepeople_ingest_client.rest.calls import answered
from wepeople_ingest_client.rest.errors import CLASS_BY_CODE
from wepeople_ingest_client.rest.retries import MAX_RETRY_SECONDS, retry_of
from wepeople_ingest_client.rest.steps import Answer, Pause, Request

PING = Request("GET", "/api/v1/ingest/ping")
BUSY = Answer(503, {}, b"")
OK = Answer(200, {}, b"")


class Times:
    """A monotonic and a wall clock, set by hand."""

    def __init__(self) -> None:
        self.monotonic = self.wall = 1_000.0


def run(
    retries: Retries, times: Times, while_pausing: Callable[[Pause], None]
) -> tuple[int, list[float]]:
    """The number of requests to a service that stays busy, and the pauses between them."""
    steps = answered(PING, retries, monotonic=lambda: times.monotonic, wall=lambda: times.wall)
    requests = 1
    pauses: list[float] = []
    assert next(steps) is PING
    while True:
        try:
            pause = steps.send(BUSY)
            assert isinstance(pause, Pause)
            pauses.append(pause.seconds)
            while_pausing(pause)
            assert steps.send(None) is PING
            requests += 1
        except StopIteration:
            return requests, pauses


def test_codes_are_the_catalogue() -> None:
    assert {code: RETRY_BY_CODE[code].name for code in RETRY_BY_CODE} == {
        code.value: entry.retry.name for code, entry in CATALOGUE.items()
    }
    assert CLASS_BY_CODE.keys() == RETRY_BY_CODE.keys()


@pytest.mark.parametrize("code", ErrorCode)
def test_status_does_not_overrule_a_code(code: ErrorCode) -> None:
    assert retry_of(code, HTTP_STATUS[code]) is RETRY_BY_CODE[code]


@pytest.mark.parametrize(
    ("status", "retry"),
    [(408, Retry.LATER), (409, Retry.NEVER), (413, Retry.NEVER), (599, Retry.LATER)],
)
def test_status_of_a_proxy(status: int, retry: Retry) -> None:
    assert retry_of("", status) is retry
    assert retry_of("a_later_code", status) is retry


def test_pauses_are_random_up_to_a_bound_that_doubles() -> None:
    retries = Retries(first_backoff_seconds=1, max_backoff_seconds=5)
    for attempts, bound in ((1, 1), (2, 2), (3, 4), (4, 5), (100, 5)):
        pauses = [retries.pause_seconds(attempts, None) for _ in range(400)]
        assert 0 <= min(pauses) < 0.2 * bound
        assert 0.8 * bound < max(pauses) <= bound
    assert 7 <= retries.pause_seconds(1, 7) <= 8


def test_attempts_are_bounded() -> None:
    retries = Retries(max_attempts=4, first_backoff_seconds=0, max_backoff_seconds=0)
    assert run(retries, Times(), lambda _: None) == (4, [0, 0, 0])


def test_time_is_bounded() -> None:
    times = Times()

    def let_pass(pause: Pause) -> None:
        times.monotonic += pause.seconds + 5

    retries = Retries(max_attempts=100, max_seconds=20)
    assert 3 <= run(retries, times, let_pass)[0] <= 5
    assert times.monotonic - 1_000 <= 20 + 5


def test_no_repeat_once_the_key_may_be_forgotten() -> None:
    times = Times()

    def sleep_of_the_machine(_: Pause) -> None:
        times.wall += MAX_RETRY_SECONDS + 1  # in which the monotonic clock stood still

    requests, pauses = run(Retries(), times, sleep_of_the_machine)
    assert (requests, len(pauses)) == (1, 1)


def test_clock_that_is_set_back_changes_nothing() -> None:
    times = Times()

    def set_back(pause: Pause) -> None:
        times.monotonic += 30
        times.wall -= 3_600

    retries = Retries(max_attempts=100, max_seconds=100, max_backoff_seconds=1)
    assert run(retries, times, set_back)[0] == 4


def test_success_after_a_pause() -> None:
    steps = answered(PING, Retries())
    assert next(steps) is PING
    assert isinstance(steps.send(NoAnswerError("cut")), Pause)
    assert steps.send(None) is PING
    with pytest.raises(StopIteration) as end:
        steps.send(OK)
    assert end.value.value is OK


def test_failure_of_our_own_is_not_repeated() -> None:
    steps = answered(PING, Retries())
    next(steps)
    with pytest.raises(NoAnswerError, match="certificate"):
        steps.send(NoAnswerError("certificate", Retry.NEVER))


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": 101},
        {"max_seconds": -1},
        {"max_seconds": MAX_RETRY_SECONDS + 1},
        {"first_backoff_seconds": -1},
        {"first_backoff_seconds": 11},
    ],
)
def test_impossible_retries(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Retries(**options)  # type: ignore[arg-type]


def pickled(error: Exception) -> object:
    return pickle.loads(pickle.dumps(error))  # noqa: S301 - our own


@pytest.mark.parametrize("copied", [copy.copy, pickled])
def test_errors_pass_between_processes(copied: Callable[[Exception], Exception]) -> None:
    error = ApiError(429, "rate_limited", "too fast", "req_1", "http://x/#rate_limited", 2)
    error.idempotency_key = "k"
    for one in (error, NoAnswerError("cut")):
        assert (str(copied(one)), vars(copied(one))) == (str(one), vars(one))
