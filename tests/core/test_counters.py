"""The counters of a process."""

from __future__ import annotations

from core.counters import CANCELLED, CODES, ENDPOINT_CODES, ENDPOINTS, OK, OTHER, Counters
from core.error_codes import ErrorCode
from core.models import Rejection


def value(counters: Counters, name: str, **labels: str) -> float | None:
    return counters.registry.get_sample_value(name, labels)


def test_everything_is_counted_in_a_series_of_its_own() -> None:
    counters = Counters()
    counters.request("http", "events", "ok", 0.1)
    counters.request("grpc", "stream", CANCELLED, 0.1)
    counters.accept(5)
    counters.accept_snapshot()
    counters.reject(
        [Rejection(0, ErrorCode.INVALID_BODY, ""), Rejection(1, ErrorCode.INVALID_BODY, "")]
    )
    ok = value(counters, "wepeople_requests_total", protocol="http", endpoint="events", code="ok")
    assert ok == 1
    assert value(counters, "wepeople_events_accepted_total") == 5
    assert value(counters, "wepeople_snapshots_accepted_total") == 1
    assert value(counters, "wepeople_events_rejected_total", code="invalid_body") == 2
    assert value(counters, "wepeople_events_rejected_total", code="missing_actor") == 0


def test_a_code_that_is_not_known_is_counted_as_other() -> None:
    counters = Counters()
    assert OTHER in CODES
    counters.request("http", "ping", "made up by a client", 0.1)
    labels = {"protocol": "http", "endpoint": "ping"}
    assert value(counters, "wepeople_requests_total", code=OTHER, **labels) == 1


def test_every_series_of_requests_is_there_from_the_start() -> None:
    counters = Counters()
    series = {
        (sample.labels["protocol"], sample.labels["endpoint"], sample.labels["code"])
        for family in counters.registry.collect()
        for sample in family.samples
        if sample.name == "wepeople_requests_total"
    }
    assert series == {(*labels, code) for labels, codes in ENDPOINT_CODES.items() for code in codes}
    assert {code for _, _, code in series} == {*CODES} - {OTHER}
    assert {endpoint for _, endpoint, _ in series} == {*ENDPOINTS}


def test_latencies_are_those_of_requests_that_succeeded() -> None:
    counters = Counters()
    for endpoint, code in (("events", OK), ("events", "rate_limited"), ("stream", OK)):
        counters.request("grpc", endpoint, code, 0.004)
    counters.stream_batch(0.02)
    name, labels = "wepeople_request_seconds", {"protocol": "grpc", "endpoint": "events"}
    assert value(counters, f"{name}_bucket", le="0.0025", **labels) == 0
    assert value(counters, f"{name}_bucket", le="0.005", **labels) == 1
    assert value(counters, f"{name}_count", **labels) == 1
    assert value(counters, f"{name}_count", protocol="grpc", endpoint="stream") is None
    assert value(counters, "wepeople_stream_batch_seconds_sum") == 0.02


def test_a_transaction_is_counted_by_its_outcome_size_and_duration() -> None:
    counters = Counters()
    counters.transaction(7, 0.004, committed=True)
    counters.transaction(3, 1.0, committed=False)
    for outcome in ("committed", "failed"):
        assert value(counters, "wepeople_journal_transactions_total", outcome=outcome) == 1
    assert value(counters, "wepeople_journal_transaction_events_sum") == 10
    assert value(counters, "wepeople_journal_commit_seconds_bucket", le="0.005") == 1
    assert value(counters, "wepeople_journal_commit_seconds_count") == 2


def test_losses_of_the_store_of_rates_are_counted_and_told_while_they_last() -> None:
    counters = Counters()
    for _ in range(2):
        counters.lose_rate_store()
    assert value(counters, "wepeople_rate_store_away") == 1
    counters.regain_rate_store()
    assert value(counters, "wepeople_rate_store_away") == 0
    assert value(counters, "wepeople_rate_store_losses_total") == 2


def test_a_cell_that_takes_no_requests_is_told_by_name() -> None:
    counters = Counters()
    for away in (True, False):
        counters.cell_away("west", away=away)
        assert value(counters, "wepeople_cell_away", cell="west") == away
    assert value(counters, "wepeople_cell_away", cell="home") is None


def test_gauges_tell_the_present() -> None:
    counters = Counters()
    assert value(counters, "wepeople_open_streams") == 0
    for opened in (1, 1, -1):
        counters.stream(opened)
    counters.waiting(7)
    counters.waiting(-5)
    assert value(counters, "wepeople_open_streams") == 1
    assert value(counters, "wepeople_journal_waiting_requests") == 2
