"""A Prometheus of a test's own, on a port of the loopback, with the configuration of deploy/."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from tests.support.ports import free_port
from tests.support.waiting import wait_until

PROGRAM: Final = shutil.which("prometheus")
PROMTOOL: Final = shutil.which("promtool")
NEEDS_PROMETHEUS: Final = pytest.mark.skipif(
    PROGRAM is None or PROMTOOL is None, reason="no prometheus here (in Debian, a package)"
)
SCRAPES: Final = 3  # a rate needs two
SCRAPE_INTERVAL: Final = "200ms"
STOP_SECONDS: Final = 10.0


class Prometheus:
    """A running server, which has scraped a few times."""

    def __init__(self, url: str) -> None:
        self._url = url

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return httpx.get(f"{self._url}/-/ready").is_success
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression by now; fails if it is none."""
        answer = httpx.get(f"{self._url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """The rules that it evaluates."""
        groups = httpx.get(f"{self._url}/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextlib.contextmanager
def prometheus(configuration: Path, rules: Path, target: str) -> Iterator[Prometheus]:
    """One that reads a configuration, but for the target and how often it is scraped."""
    given = yaml.safe_load(configuration.read_text())
    given["global"] = {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL}
    given["rule_files"] = [str(rules)]
    (job,) = given["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(prefix="wepeople-prometheus-") as folder:
        file = Path(folder) / "prometheus.yml"
        file.write_text(yaml.safe_dump(given))
        address = f"127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [
                PROGRAM,
                f"--config.file={file}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={address}",
                "--log.level=error",
            ]
        )
        try:
            server = Prometheus(f"http://{address}")
            wait_until(lambda: _has_scraped(server), "Prometheus has scraped", seconds=30)
            yield server
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _has_scraped(server: Prometheus) -> bool:
    if not server.is_ready():
        return False
    counted = server.query("count_over_time(wepeople_ready[1m])")
    return bool(counted) and float(counted[0]["value"][1]) >= SCRAPES
