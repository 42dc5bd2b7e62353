"""TLS of a whole service: its start, SIGHUP and its log."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.settings import Settings
from service.tls import warn_of_plaintext
from tests.service.cli.command import WAIT_SECONDS, command, process
from tests.support.certificates import Certificates, needs_openssl
from tests.support.service_process import ServiceProcess
from tests.support.waiting import wait_until

pytestmark = needs_openssl

TLS = {"http_tls_certificate": Path("a.pem"), "http_tls_key": Path("a.key")}
ANY_PORTS = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")


def copied(certificates: Certificates, folder: Path) -> dict[str, str]:
    """The settings of a service with files of its own."""
    for suffix in ("pem", "key"):
        shutil.copyfile(certificates[f"server.{suffix}"], folder / f"server.{suffix}")
    return {
        f"WEPEOPLE_{api}_TLS_{role}": str(folder / f"server.{suffix}")
        for api in ("HTTP", "GRPC")
        for role, suffix in (("CERTIFICATE", "pem"), ("KEY", "key"))
    }


@pytest.mark.parametrize(
    ("variable", "spoiled", "workers"),
    [
        ("WEPEOPLE_GRPC_TLS_CERTIFICATE", b"", "1"),
        ("WEPEOPLE_GRPC_TLS_KEY", None, "2"),
        ("WEPEOPLE_GRPC_TLS_CLIENT_CA", b"no certificate", "1"),
        ("WEPEOPLE_HTTP_TLS_KEY", b"no key", "2"),
    ],
)
def test_files_are_checked_before_the_database_is_touched(
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    spoiled: bytes | None,
    workers: str,
) -> None:
    wrong = tmp_path / "wrong.pem"
    if spoiled is not None:
        wrong.write_bytes(spoiled)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("WEPEOPLE_DATA_DIR", str(tmp_path / "data"))
    for name, value in {**copied(certificates, tmp_path), variable: str(wrong)}.items():
        monkeypatch.setenv(name, value)
    with process("serve", "--json", *ANY_PORTS, "--workers", workers) as started:
        out, err = started.communicate(timeout=WAIT_SECONDS)
    assert (started.returncode, out) == (1, "")
    assert err.startswith(f"wepeople-ingest: {variable}: cannot use {wrong} for TLS: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.fixture(params=[1, 2])
def service(
    request: pytest.FixtureRequest, certificates: Certificates, database_url: str, tmp_path: Path
) -> Iterator[ServiceProcess]:
    """A service with TLS, of one process or two."""
    service = ServiceProcess(
        tmp_path,
        server_processes=request.param,
        DATABASE_URL=database_url,
        **copied(certificates, tmp_path),
    )
    service.start()
    yield service
    service.kill()


def shown(address: str) -> str:
    """The certificate that a new connection gets."""
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=WAIT_SECONDS)


def test_sighup_has_renewed_files_read_and_ends_nothing(
    service: ServiceProcess, certificates: Certificates, tmp_path: Path
) -> None:
    renewed = ssl.DER_cert_to_PEM_cert(
        ssl.PEM_cert_to_DER_cert(certificates["client.pem"].read_text())
    )
    http = service.url.removeprefix("https://")
    assert renewed not in (shown(service.grpc), shown(http))
    for suffix in ("pem", "key"):
        shutil.copyfile(certificates[f"client.{suffix}"], tmp_path / f"server.{suffix}")
    service.send_signal(signal.SIGHUP)
    wait_until(
        lambda: all(shown(each) == renewed for each in 10 * (service.grpc, http)),
        "every process shows the renewed certificate",
    )
    assert service.terminate() == 0


def test_failed_handshakes_leave_no_line_that_is_not_json(service: ServiceProcess) -> None:
    for address in (service.grpc, service.url.removeprefix("https://")):
        fail_handshakes(address)
    assert service.terminate() == 0
    for line in service.log.read_text().splitlines():
        assert json.loads(line)["message"]


def fail_handshakes(address: str) -> None:
    """Connect without TLS, with garbage, and without trust."""
    host, _, port = address.rpartition(":")
    for sent in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01" + bytes(64)):
        with socket.create_connection((host, int(port)), timeout=WAIT_SECONDS) as plain:
            plain.sendall(sent)
            while plain.recv(4_096):
                pass
    distrusting = ssl.create_default_context()
    with (
        pytest.raises(ssl.SSLError),
        socket.create_connection((host, int(port)), timeout=WAIT_SECONDS) as raw,
        distrusting.wrap_socket(raw, server_hostname="localhost"),
    ):
        pass


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        ({}, []),
        ({"http": "[::1]:1", "grpc": "localhost:1"}, []),
        ({"http": "0.0.0.0:1"}, ["HTTP"]),
        ({"http": "[::]:1", "grpc": "ingest.example:1"}, ["HTTP", "GRPC"]),
        ({"http": "10.0.0.1:1", "grpc": "10.0.0.1:2", **TLS}, ["GRPC"]),
        ({"http": "0.0.0.0:1", "public_url": "http://ingest.example"}, ["HTTP"]),
        ({"http": "0.0.0.0:1", "public_url": "https://ingest.example"}, []),
    ],
)
def test_an_api_that_others_reach_without_tls_is_warned_of(
    given: dict[str, Any], warned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_plaintext(Settings.from_environment({}).model_copy(update=given))
    assert [
        re.findall(r"WEPEOPLE_(\w+)_TLS_KEY", one.message)[0] for one in caplog.records
    ] == warned


def test_sighup_ends_nothing_without_tls_and_at_the_start(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    executable, *arguments = command("serve", "--json", *ANY_PORTS)
    with subprocess.Popen(
        [executable, "-X", "importtime", *arguments],  # tells of each module that was imported
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        try:
            for module in ("grpc", "service.compose"):
                while (line := started.stderr.readline()).rpartition("|")[2].strip() != module:
                    assert line, f"{module} is not imported"
                started.send_signal(signal.SIGHUP)
            threading.Thread(target=started.stderr.read, daemon=True).start()  # so that it goes on
            ready = json.loads(started.stdout.readline())
            started.send_signal(signal.SIGHUP)
            assert httpx.get(f"{ready['http']}/healthz").status_code == 200
            started.send_signal(signal.SIGTERM)
            assert started.wait(WAIT_SECONDS) == 0
        finally:
            started.kill()
