"""The store of rates that the settings name: refusals are told at the start, absence is not."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from service.rates import check_rate_store, rate_store
from service.settings import Settings, SettingsError
from tests.support.redis_server import NEEDS_REDIS, RedisServer, redis_server


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("open sesame") as server:
        yield server


def settings(url: str) -> Settings:
    return Settings.from_environment({"WEPEOPLE_RATE_STORE": url})


@NEEDS_REDIS
def test_a_wrong_password_is_told_with_the_variable(server: RedisServer) -> None:
    with pytest.raises(SettingsError, match=r"^WEPEOPLE_RATE_STORE: the store refuses: .*pass"):
        check_rate_store(settings(f"valkey://:simsalabim@127.0.0.1:{server.port}"))


@NEEDS_REDIS
def test_a_store_that_can_be_used_is_accepted(server: RedisServer) -> None:
    check_rate_store(settings(f"valkey://:open%20sesame@127.0.0.1:{server.port}/1"))


def test_a_store_that_is_away_is_no_error() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        check_rate_store(settings(f"valkey://127.0.0.1:{nobody.getsockname()[1]}"))


def test_without_the_setting_there_is_no_store() -> None:
    assert rate_store(Settings.from_environment({})) is None
