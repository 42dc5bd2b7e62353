"""The start of several server processes: ports that are taken, and other reasons to fail."""

from __future__ import annotations

import asyncio
import itertools
import socket

import pytest

from http_api.listeners import address, bind, reserve
from tests.service.processes.several import (
    ANY_PORTS,
    attempt,
)
from tests.support.service_process import EmbeddedServiceProcess
from tests.support.tenant import make_tenant


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_port_that_is_taken_is_an_error(
    shared_service: EmbeddedServiceProcess, shared_database: str, protocol: str, workers: str
) -> None:
    # The hardest port is one that the same user's service shares among its processes.
    taken = {"http": shared_service.url.removeprefix("http://"), "grpc": shared_service.grpc}[
        protocol
    ]
    addresses = {**ANY_PORTS, f"--{protocol}": taken}
    done = attempt(shared_database, "--workers", workers, *itertools.chain(*addresses.items()))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"wepeople-ingest: cannot listen on {taken}: " in done.stderr


def test_a_port_is_reserved_before_a_server_process_listens() -> None:
    with reserve("127.0.0.1", 0) as holder:
        host, port = address(holder)
        for rival in (reserve, bind):
            with pytest.raises(OSError, match=f"cannot listen on {host}:{port}: Address already"):
                rival(host, port)
        with bind(host, port, shared=True), bind(host, port, shared=True):
            pass
    with bind(host, port):
        pass


def test_a_port_that_a_stranger_has_is_an_error(shared_database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = f"127.0.0.1:{stranger.getsockname()[1]}"
        done = attempt(shared_database, "--workers", "2", "--http", "127.0.0.1:0", "--grpc", taken)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot listen on {taken}: Address already in use" in done.stderr


def test_what_no_server_process_can_do_is_one_reason(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(make_tenant(database_url))
    monkeypatch.setenv("WEPEOPLE_KEY_SECRET", "the secret of the keys from now on")
    monkeypatch.setenv("WEPEOPLE_KEY_SECRET_PREVIOUS", "another secret than that of the keys")
    done = attempt(database_url, "--workers", "2", *itertools.chain(*ANY_PORTS.items()))
    assert (done.returncode, done.stdout) == (1, "")
    reason = "wepeople-ingest: WEPEOPLE_KEY_SECRET_PREVIOUS is not the secret"
    assert done.stderr.splitlines()[-1].startswith(reason)
    assert "Traceback" not in done.stderr
