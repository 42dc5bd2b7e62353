"""The plan of a run: the loads of its rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from service.bench.load import StreamLoad
from service.bench.plan import Choice, stages


def test_half_of_a_speed_at_which_nothing_was_acked_is_a_rate() -> None:
    destination: Any = SimpleNamespace(
        target=SimpleNamespace(grpc="127.0.0.1:1", tls=False), tenant=SimpleNamespace(key="key")
    )
    (stage,) = stages(Choice("both", None, None, None, True), None, yardsticks=True)
    half = stage.measurements[-1].rows[0]
    loads = [half.make(destination, {"grpc_1": speed}) for speed in (0.0, 50_000.0)]
    assert loads == [StreamLoad("127.0.0.1:1", False, "key", 500, 1, rate) for rate in (1.0, 50.0)]
