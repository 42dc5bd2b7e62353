"""A service of several server processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.support.service_process import PROGRAM, EmbeddedServiceProcess, embedded_service

SERVER_PROCESSES = 2

CONNECTIONS = 20  # so that no server process is left out by chance

GONE_SECONDS = 20.0

ANY_PORTS = {"--http": "127.0.0.1:0", "--grpc": "127.0.0.1:0"}


@contextlib.contextmanager
def new_service() -> Iterator[EmbeddedServiceProcess]:
    """A service of several server processes in a folder of its own, of which nothing remains."""
    with embedded_service(SERVER_PROCESSES) as service:
        service.start()
        yield service


def page(url: str, path: str) -> httpx.Response:
    """A page, over a connection of its own, from whichever server process."""
    response = httpx.get(f"{url}{path}")
    assert response.status_code == 200, response.text
    return response


def metrics(url: str) -> dict[str, float]:
    """The metrics page, by series."""
    answer = page(url, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    return {series: float(value) for series, value in lines}


def attempt(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A service that should not start."""
    root = os.fspath(Path(__file__).parents[3])
    return subprocess.run(
        [*PROGRAM, "serve", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": root},
        check=False,
    )
