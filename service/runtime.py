"""The surroundings of a running service: event loop, database start-up, signals and addresses."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import uvloop
from pydantic import SecretStr

from core.access.key_secrets import KeySecrets, key_secrets
from core.descriptors import raise_descriptor_limit
from core.postgres.migrate import migrate
from core.postgres.sessions import Connection, connect, logs_statements
from service.demo import DemoAccess, ensure_demo
from service.settings import Settings, host_and_port

log = logging.getLogger(__name__)

T = TypeVar("T")

INTERRUPTED: Final = 1  # an end that was not in order (contract section 11)
# For the journal, the statistics and the pool, after both APIs have drained one after the other.
STOP_MARGIN_SECONDS: Final = 15.0
# From a supervisor to its server processes; others of this user could read the key's file as well.
DEMO_KEY_VARIABLE: Final = "WEPEOPLE_INTERNAL_DEMO_KEY"


class Ready(NamedTuple):
    """The addresses at which the service accepts traffic; ``demo`` if it was asked for."""

    http: str  # a URL
    grpc: str | None  # HOST:PORT
    demo: DemoAccess | None


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the event loop that the service is measured with.

    The process may then open as many files as the system lets it.
    """
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def bring_up_to_date(conninfo: str) -> None:
    """Apply the migrations of this release, and warn of a server that logs statements."""
    migrated = await migrate(conninfo)
    for applied in migrated.applied:
        log.info("applied migration %s", applied.name)
        for line in applied.notes:
            log.warning("%s", line)
    for line in migrated.left:
        log.error("%s", line)
    async with await connect(conninfo) as db:
        if await logs_statements(db):
            log.warning(
                "PostgreSQL writes the text of statements that fail into its log, and with it what "
                "people sent; as a superuser: ALTER ROLE %s SET log_min_error_statement = 'panic'",
                db.info.user,
            )


async def make_demo(settings: Settings, conninfo: str) -> DemoAccess:
    """The demo: what is missing of it is made, and a link to the console."""
    async with await connect(conninfo) as db:
        secrets = await configured_secrets(settings, db)
        embedded = settings.database_url is None
        return await ensure_demo(db, secrets, settings.data_dir if embedded else None)


async def configured_secrets(settings: Settings, db: Connection) -> KeySecrets:
    """The secrets of key digests by the settings; raises as ``key_secrets``."""
    return await key_secrets(db, _text(settings.key_secret), _text(settings.key_secret_previous))


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def stop_signal(before_exit: Callable[[], None] | None = None) -> asyncio.Future[None]:
    """A future that is done at SIGINT or SIGTERM.

    A second signal calls ``before_exit`` and ends the process with status 1.
    """
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal() -> None:
        if stop.done():
            if before_exit is not None:
                before_exit()
            # Safe at any instant: nothing is acknowledged before it is durable.
            log.error("stopped at once, by a second signal")
            for handler in logging.getLogger().handlers:
                handler.flush()
            os._exit(INTERRUPTED)
        stop.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return stop


def max_stop_seconds(settings: Settings) -> float:
    """The longest that a process takes to stop; one that takes longer hangs."""
    return settings.drain_grace_seconds + 2 * settings.drain_seconds + STOP_MARGIN_SECONDS


def is_every_interface(host: str) -> bool:
    """Whether a listener on that address, given without brackets, is reached by other machines."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return False


def client_address(host: str, port: int) -> str:
    """HOST:PORT at which a client of this machine reaches a listener on that address."""
    if is_every_interface(host):  # nobody can connect to that
        host = "::1" if ":" in host else "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def http_url(host: str, port: int, *, has_tls: bool) -> str:
    """The URL of such a listener, as :func:`client_address`."""
    return f"{'https' if has_tls else 'http'}://{client_address(host, port)}"


def public_base_url(settings: Settings) -> str:
    """The URL that links to the service begin with, for a command beside it."""
    if settings.public_url is not None:
        return settings.public_url
    has_tls = settings.http_tls_certificate is not None
    return http_url(*host_and_port(settings.http), has_tls=has_tls)


def grpc_target(settings: Settings, port: int) -> str:
    """HOST:PORT at which clients reach gRPC: the public URL's host, or else this machine."""
    if settings.public_url is None:
        return client_address(host_and_port(settings.grpc)[0], port)
    return client_address(urlsplit(settings.public_url).hostname or "", port)
