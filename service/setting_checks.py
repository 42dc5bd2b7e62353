"""Checks of settings: each returns the value as it is used, or raises ValueError with the rule."""

from __future__ import annotations

import re
from typing import Final, Literal

from pydantic import SecretStr

MIN_SECRET_CHARACTERS: Final = 16
MAX_SERVER_PROCESSES: Final = 32  # their connections, a few each, fit into an embedded PostgreSQL
AUTOMATIC: Final = "auto"
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):(\d{1,5})\Z")
_RATE_STORE: Final = re.compile(
    r"(?:valkey|redis)s?://(?:[^\s@/?#]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s@?#]+)(?::(\d{1,5}))?(?:/\d{0,5})?\Z"
)


def address(value: str) -> str:
    """HOST:PORT, with any host."""
    match = _ADDRESS.match(value)
    if match is None or int(match[2]) > 65_535:
        raise ValueError("must be HOST:PORT, like 127.0.0.1:8080 (port 0: any free port)")
    return value


def server_processes(value: str | int) -> int | Literal["auto"]:
    """A number of server processes, or AUTOMATIC."""
    if value == AUTOMATIC:
        return AUTOMATIC
    given = str(value)
    if (
        not re.fullmatch(r"[0-9]{1,2}", given, re.ASCII)
        or not 1 <= int(given) <= MAX_SERVER_PROCESSES
    ):
        raise ValueError(f"must be {AUTOMATIC} or 1 to {MAX_SERVER_PROCESSES}")
    return int(given)


def url(value: str) -> str:
    """A URL, without the slash at its end."""
    if not re.match(r"https?://[^\s/?#]+[^\s?#]*\Z", value):
        raise ValueError("must be a URL that starts with http:// or https://")
    return value.rstrip("/")


def rate_store(value: SecretStr) -> SecretStr:
    """The URL of a store of rates."""
    match = _RATE_STORE.match(value.get_secret_value())
    if match is None or int(match[1] or 0) > 65_535:
        raise ValueError(
            "must be valkey://HOST:PORT or redis://HOST:PORT, with an s (valkeys, rediss) for TLS, "
            "USER:PASSWORD@ before the host and /DATABASE behind the port if needed"
        )
    return value


def secret(value: SecretStr) -> SecretStr:
    """A secret that is long enough."""
    if len(value.get_secret_value()) < MIN_SECRET_CHARACTERS:
        raise ValueError(f"must be at least {MIN_SECRET_CHARACTERS} characters")
    return value


def level(value: str) -> str:
    """A level of the log, as Python's logging spells it."""
    if value.lower() not in ("debug", "info", "warning", "error"):
        raise ValueError("must be debug, info, warning or error")
    return value.upper()
