"""The alerts and the dashboard: valid, and each of their queries is answered by a live service."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.deploy import files
from tests.support.grpc_driver import GrpcDriver
from tests.support.http_driver import HttpDriver
from tests.support.prometheus import NEEDS_PROMETHEUS, PROMTOOL, Prometheus, prometheus
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio

# An alert's expression: a value, and the bound that it passes.
BOUNDED: Final = re.compile(r"(?P<value>.+) [<>] [\d.]+", re.DOTALL)
ONLY_WITH_TLS: Final = "wepeople_tls_"
VARIABLES: Final = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m"}
# What Prometheus sees of a service in distress and of one at rest, a minute apart: Prometheus's
# notation of a first value, a step and a count.
TARGET: Final = 'job="wepeople-ingest",instance="a"'
SERIES: Final = (
    ("up{%s}", "0x40", "1x40"),
    ("wepeople_ready{%s}", "0x40", "1x40"),
    ("wepeople_server_processes{%s}", "4x40", "4x40"),
    ("wepeople_server_processes_ready{%s}", "3x40", "4x40"),
    ("wepeople_server_process_restarts_total{%s}", "0+1x40", "1x40"),
    ('wepeople_requests_total{%s,code="ok"}', "0+600x40", "0+6000x40"),
    ('wepeople_requests_total{%s,code="internal_error"}', "0+100x40", "0+1x40"),
    ('wepeople_requests_total{%s,code="invalid_key"}', "0+6000x40", "0+60x40"),
    ('wepeople_request_seconds_bucket{%s,endpoint="events",le="0.5"}', "0x40", "0+60x40"),
    ('wepeople_request_seconds_bucket{%s,endpoint="events",le="1"}', "0+60x40", "0+60x40"),
    ('wepeople_request_seconds_bucket{%s,endpoint="events",le="+Inf"}', "0+60x40", "0+60x40"),
    ('wepeople_stream_batch_seconds_bucket{%s,le="1"}', "0x40", "0+60x40"),
    ('wepeople_stream_batch_seconds_bucket{%s,le="2.5"}', "0+60x40", "0+60x40"),
    ('wepeople_stream_batch_seconds_bucket{%s,le="+Inf"}', "0+60x40", "0+60x40"),
    ('wepeople_events_rejected_total{%s,code="invalid_body"}', "0+60x40", "0+5x40"),
    ("wepeople_events_accepted_total{%s}", "0+10x40", "0+60x40"),
    ('wepeople_journal_transactions_total{%s,outcome="failed"}', "0+60x40", "5x40"),
    ('wepeople_journal_commit_seconds_bucket{%s,le="0.1"}', "0x40", "0+60x40"),
    ('wepeople_journal_commit_seconds_bucket{%s,le="0.5"}', "0+60x40", "0+60x40"),
    ('wepeople_journal_commit_seconds_bucket{%s,le="+Inf"}', "0+60x40", "0+60x40"),
    ("wepeople_journal_waiting_requests{%s}", "900x40", "40x40"),
    ('wepeople_pool_waiting{%s,pool="general"}', "9x40", "0x40"),
    ('wepeople_pool_refusals_total{%s,pool="general"}', "0+1x40", "7x40"),
    ("wepeople_rate_store_away{%s}", "1x40", "0x40"),
    ('wepeople_admission_refusals_total{%s,bound="request_bytes"}', "0+9x40", "3x40"),
    ('wepeople_admission_used{%s,budget="request_bytes"}', "90x40", "10x40"),
    ('wepeople_admission_limit{%s,budget="request_bytes"}', "100x40", "100x40"),
    (
        'wepeople_tls_certificate_expiry_timestamp_seconds{%s,protocol="http"}',
        "1000000x40",
        "2000000x40",
    ),
    ('process_resident_memory_bytes{%s,process="0"}', "900000000x40", "90000000x40"),
    ('process_open_fds{%s,process="0"}', "90x40", "10x40"),
    ('process_max_fds{%s,process="0"}', "100x40", "100x40"),
    ('process_cpu_seconds_total{%s,process="0"}', "0+60x40", "0+6x40"),
)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)


def fired(folder: Path, *, in_distress: bool, expected: list[str]) -> str:
    """What promtool has to object if these alerts are to be firing after 39 minutes."""
    name = 'count by (alertname) (ALERTS{alertstate="firing"})'
    tests = {
        "rule_files": [str(files.RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": series % TARGET, "values": bad if in_distress else good}
                    for series, bad, good in SERIES
                ],
                "promql_expr_test": [
                    {
                        "expr": name,
                        "eval_time": "39m",
                        "exp_samples": [
                            {"labels": f'{{alertname="{one}"}}', "value": 1} for one in expected
                        ],
                    }
                ],
            }
        ],
    }
    file = folder / "rules_test.yaml"
    file.write_text(yaml.safe_dump(tests))
    done = promtool("test", "rules", str(file))
    return "" if done.returncode == 0 else done.stdout + done.stderr


@NEEDS_PROMETHEUS
def test_rules_and_configuration_are_valid() -> None:
    assert promtool("check", "rules", str(files.RULES)).returncode == 0
    checked = promtool("check", "config", "--syntax-only", str(files.PROMETHEUS))
    assert checked.returncode == 0, checked.stderr


@NEEDS_PROMETHEUS
def test_every_alert_fires_in_distress_and_none_at_rest(tmp_path: Path) -> None:
    every = [rule["alert"] for rule in files.alerts()]
    assert fired(tmp_path, in_distress=True, expected=every) == ""
    assert fired(tmp_path, in_distress=False, expected=[]) == ""
    assert fired(tmp_path, in_distress=True, expected=every[1:]) != ""


def test_every_alert_has_a_severity_a_bound_and_a_runbook() -> None:
    for rule in files.alerts():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert BOUNDED.fullmatch(rule["expr"])
        assert rule["annotations"].keys() == {"summary", "runbook"}


def lost(given: Any, kept: Any, path: str = "dashboard") -> Iterator[str]:
    """What Grafana's types have not kept of a document."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            yield from lost(value, kept.get(name), f"{path}.{name}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{path}[{index}]")
    elif given != kept:
        yield path


def kept_by_grafana(given: dict[str, Any]) -> Any:
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(json.dumps(given)))))


def test_the_dashboard_is_one_of_grafana() -> None:
    given = files.dashboard()
    assert list(lost(given, kept_by_grafana(given))) == []
    given["panels"][1]["targets"][0]["expresion"] = "up"
    assert list(lost(given, kept_by_grafana(given))) == ["dashboard.panels[1].targets[0].expresion"]


def test_panels_fill_their_rows_and_say_what_they_show() -> None:
    panels = files.dashboard()["panels"]
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        taken = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        cells |= taken
        assert panel["type"] == "row" or panel["description"]
    assert len(cells) == 24 * (max(y for _, y in cells) + 1)
    assert len({panel["id"] for panel in panels}) == len(panels)


def dashboard_queries() -> Iterator[str]:
    content = files.dashboard()
    for panel in content["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for annotation in content["annotations"]["list"]:
        yield annotation["expr"]
    for variable in content["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"].removeprefix("label_values(").rpartition(",")[0]


def values(expression: str) -> str:
    """An expression without its bound, and with a value for each of Grafana's variables."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    bounded = BOUNDED.fullmatch(expression)
    return bounded["value"] if bounded else expression


@NEEDS_PROMETHEUS
async def test_every_query_is_answered_by_a_live_service(
    server: Addresses, tenant: Tenant, mutual_tls: Addresses
) -> None:
    http, grpc = HttpDriver(server.http), GrpcDriver(server.grpc)
    for driver in (http, grpc):
        assert (await driver.ingest(tenant.key, [event()])).code is None
        await driver.close()
    target = server.http.removeprefix("http://")
    with prometheus(files.PROMETHEUS, files.RULES, target) as scraping:
        unanswered = [
            expression
            for expression in (*dashboard_queries(), *(rule["expr"] for rule in files.alerts()))
            if not scraping.query(values(expression))
        ]
        assert {rule["health"] for rule in scraping.rules()} <= {"ok", "unknown"}
        unanswered += no_series(scraping)
    assert all(ONLY_WITH_TLS in expression for expression in unanswered)
    target = mutual_tls.http.removeprefix("http://")
    with prometheus(files.PROMETHEUS, files.RULES, target) as scraping:
        assert [one for one in unanswered if not scraping.query(values(one))] == []


def no_series(scraping: Prometheus) -> list[str]:
    """The metrics that docs/metrics.md names, and the page has not."""
    text = (files.PROJECT / "docs/metrics.md").read_text()
    named = sorted(set(re.findall(r"`((?:wepeople|process)_\w+)`", text)))
    assert len(named) > 30
    return [name for name in named if not scraping.query(f'{{__name__=~"{name}(_count)?"}}')]
