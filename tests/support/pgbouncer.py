"""A real PgBouncer before a PostgreSQL server."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.support.ports import free_port
from tests.support.postgres_server import (
    SUPERUSER,
    PostgresServer,
    ordinary_account,
    run_as,
    server_folder,
)
from tests.support.waiting import wait_until

PROGRAM: Final = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
NEEDS_PGBOUNCER: Final = pytest.mark.skipif(
    PROGRAM is None, reason="no pgbouncer here (in Debian, a package of that name)"
)
STOP_SECONDS: Final = 10.0


@contextlib.contextmanager
def pgbouncer(
    server: PostgresServer,
    pool_mode: str = "session",
    ignore_startup_parameters: str = "",
    server_lifetime_seconds: int = 3_600,
) -> Iterator[str]:
    """The way to the server's databases through a PgBouncer, which runs for the block."""
    assert PROGRAM is not None
    account, port = ordinary_account(), free_port()
    conninfo = make_conninfo(server.conninfo, port=port)
    with server_folder() as folder:
        users, configuration, log = (folder / name for name in ("users", "ini", "log"))
        users.write_text(f'"{SUPERUSER}" "{server.password}"\n')
        configuration.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = {pool_mode}\n"
            f"max_client_conn = 1000\ndefault_pool_size = 300\n"
            f"server_lifetime = {server_lifetime_seconds}\n"
            f"ignore_startup_parameters = {ignore_startup_parameters}\n"
        )
        for path in (users, configuration):
            path.chmod(0o600)
            if account is not None:
                os.chown(path, account.uid, account.gid)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [PROGRAM, configuration],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                **run_as(account),
            )

        def answers() -> bool:
            assert process.poll() is None, log.read_text()[-2_000:]
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(conninfo, connect_timeout=5).close()
                return True
            return False

        try:
            wait_until(answers, "PgBouncer takes connections")
            yield conninfo
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
