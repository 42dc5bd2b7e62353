"""A Redis server of a test's own, on a port of the loopback, which can be killed and stopped."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from tests.support.certificates import Certificates
from tests.support.ports import free_port
from tests.support.waiting import wait_until

PROGRAM: Final = shutil.which("valkey-server") or shutil.which("redis-server")
NEEDS_REDIS: Final = pytest.mark.skipif(
    PROGRAM is None, reason="no redis-server here (in Debian, a package of that name)"
)
STOP_SECONDS: Final = 10.0


class RedisServer:
    """One server; it keeps nothing on disk. With certificates it speaks TLS alone."""

    def __init__(
        self, folder: Path, password: str = "", certificates: Certificates | None = None
    ) -> None:
        self._folder = folder
        self._password = password
        self._certificates = certificates
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """The way to it, as operators write it."""
        credential = f":{quote(self._password, safe='')}@" if self._password else ""
        scheme = "valkeys" if self._certificates else "valkey"
        return f"{scheme}://{credential}127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; returns when it answers."""
        assert PROGRAM is not None
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        if self._password:
            options["requirepass"] = self._password
        if self._certificates:
            options |= {
                "port": "0",
                "tls-port": str(self.port),
                "tls-cert-file": str(self._certificates["server.pem"]),
                "tls-key-file": str(self._certificates["server.key"]),
                "tls-auth-clients": "no",
            }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        log = self._folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM, *arguments, "--dir", str(self._folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        process = self._process

        def answers() -> bool:
            assert process.poll() is None, log.read_text()[-2_000:]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return True
            return False

        wait_until(answers, "the Redis server takes connections")

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
            self._process = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Within the block it hangs: its connections stay, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def redis_server(
    password: str = "", certificates: Certificates | None = None
) -> Iterator[RedisServer]:
    """A started server; nothing of it remains."""
    with tempfile.TemporaryDirectory(prefix="wepeople-redis-") as folder:
        server = RedisServer(Path(folder), password, certificates)
        try:
            server.start()
            yield server
        finally:
            server.kill()
