"""The recorder: requests that could not be sent count, too."""

from __future__ import annotations

from service.bench.recorder import Recorder, now


def test_what_was_due_and_never_sent_counts_as_slow() -> None:
    recorder = Recorder(now() - 2.0, 2.0)
    recorder.unsent(now() - 1.0)
    result = recorder.result()
    assert (result.requests, result.unsent) == (0, 1)
    assert result.latency_ms.p50 >= 1_000
