"""Settings: wrong ones are refused by name, and nothing is taken for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, SettingsError, settings_help


def read(**environment: str) -> Settings:
    return Settings.from_environment(environment)


def test_the_defaults() -> None:
    settings = read()
    assert settings.http == "127.0.0.1:8080"
    assert settings.grpc == "127.0.0.1:50051"
    assert settings.database_url is None
    assert settings.key_secret is None
    assert settings.public_url is None
    assert settings.event_retention_months is None
    assert settings.drain_seconds == 10
    assert settings.server_processes == "auto"
    assert settings.log_level == "INFO"


@pytest.mark.parametrize(
    ("euid", "folder"), [(0, "/var/lib/wepeople-ingest"), (1_000, "wepeople-ingest")]
)
def test_the_data_folder_is_one_that_postgresql_can_reach(
    monkeypatch: pytest.MonkeyPatch, euid: int, folder: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: euid)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(read().data_dir).endswith(folder)
    assert read().data_dir.is_absolute()


def test_every_variable_is_read() -> None:
    settings = read(
        WEPEOPLE_HTTP="0.0.0.0:80",
        WEPEOPLE_GRPC="[::1]:0",
        DATABASE_URL="postgresql://db/wepeople",
        WEPEOPLE_DATA_DIR="/data",
        WEPEOPLE_KEY_SECRET="sixteen letters!",
        WEPEOPLE_PUBLIC_URL="https://ingest.example.com/",
        WEPEOPLE_RATE_STORE="valkeys://ingest:sesame@store.internal:6380/2",
        WEPEOPLE_EVENT_RETENTION_MONTHS="13",
        WEPEOPLE_DRAIN_SECONDS="2.5",
        WEPEOPLE_LOG_LEVEL="Debug",
    )
    assert settings.key_secret is not None
    assert settings.rate_store is not None
    assert (
        settings.http,
        settings.grpc,
        settings.database_url,
        settings.data_dir,
        settings.key_secret.get_secret_value(),
        settings.rate_store.get_secret_value(),
        settings.public_url,
        settings.event_retention_months,
        settings.drain_seconds,
        settings.log_level,
    ) == (
        "0.0.0.0:80",
        "[::1]:0",
        "postgresql://db/wepeople",
        Path("/data"),
        "sixteen letters!",
        "valkeys://ingest:sesame@store.internal:6380/2",
        "https://ingest.example.com",
        13,
        2.5,
        "DEBUG",
    )


@pytest.mark.parametrize("name", [variable for variable, _, _ in settings_help()])
def test_a_variable_that_is_set_to_nothing_is_not_set(name: str) -> None:
    assert read(**{name: ""}) == read()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("WEPEOPLE_HTPP", "WEPEOPLE_HTTP"),
        ("WEPEOPLE_DATADIR", "WEPEOPLE_DATA_DIR"),
        ("WEPEOPLE_LOGLEVEL", "WEPEOPLE_LOG_LEVEL"),
        ("WEPEOPLE_DATABASE_URL", "DATABASE_URL"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_one_that_was_meant(given: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=rf"{given}: did you mean {meant}\?"):
        read(**{given: "x"})


def test_an_unknown_variable_like_no_other_is_refused_too() -> None:
    with pytest.raises(SettingsError, match=r"unknown variable WEPEOPLE_[^ ]*: see"):
        read(WEPEOPLE_QUITE_SOMETHING_ELSE="")


def test_the_variables_of_others_are_not_ours() -> None:
    assert read(PATH="/bin", PGHOST="db", WEPEOPLES="x", HTTP="x") == read()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *(
            (name, value, "must be HOST:PORT")
            for name in ("WEPEOPLE_HTTP", "WEPEOPLE_GRPC")
            for value in ("8080", ":8080", "host", "host:", "host:http", "a:65536", "a b:1")
        ),
        ("WEPEOPLE_HTTP", "::1:8080", "must be HOST:PORT"),
        ("WEPEOPLE_HTTP", "http://host:80", "must be HOST:PORT"),
        ("WEPEOPLE_HTTP", "host:80\n", "must be HOST:PORT"),
        *(
            ("WEPEOPLE_RATE_STORE", value, "must be valkey://HOST:PORT")
            for value in (
                "store:6379",
                "http://store:6379",
                "valkey://",
                "valkey://store:65536",
                "valkey://store/one",
                "redis://store?socket_timeout=9",
            )
        ),
        ("WEPEOPLE_KEY_SECRET", "too short", "at least 16"),
        ("WEPEOPLE_PUBLIC_URL", "ingest.example.com", "must be a URL"),
        ("WEPEOPLE_PUBLIC_URL", "ftp://host", "must be a URL"),
        ("WEPEOPLE_PUBLIC_URL", "https://host?a=b", "must be a URL"),
        ("WEPEOPLE_PUBLIC_URL", "https://host#a", "must be a URL"),
        ("WEPEOPLE_EVENT_RETENTION_MONTHS", "0", "greater than or equal to 1"),
        ("WEPEOPLE_EVENT_RETENTION_MONTHS", "-1", "greater than or equal to 1"),
        ("WEPEOPLE_EVENT_RETENTION_MONTHS", "1.5", "valid integer"),
        ("WEPEOPLE_EVENT_RETENTION_MONTHS", "9999", "less than or equal to 1200"),
        ("WEPEOPLE_WORKERS", "0", "must be auto or 1 to 32"),
        ("WEPEOPLE_WORKERS", "33", "must be auto or 1 to 32"),
        ("WEPEOPLE_WORKERS", "1.0", "must be auto or 1 to 32"),
        ("WEPEOPLE_DRAIN_SECONDS", "0", "greater than 0"),
        ("WEPEOPLE_DRAIN_SECONDS", "nan", ""),
        ("WEPEOPLE_DRAIN_SECONDS", "inf", ""),
        ("WEPEOPLE_DRAIN_SECONDS", "10s", "valid number"),
        ("WEPEOPLE_LOG_LEVEL", "verbose", "must be debug, info, warning or error"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str, reason: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(**{name: value})
    assert str(refused.value).startswith(f"{name}: ")
    assert reason in str(refused.value)


def test_the_secret_is_not_shown() -> None:
    settings = read(WEPEOPLE_KEY_SECRET="sixteen letters!")
    assert "sixteen" not in repr(settings)
    assert "sixteen" not in settings.model_dump_json()
    with pytest.raises(SettingsError) as refused:
        read(WEPEOPLE_KEY_SECRET="sesame")
    assert "sesame" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        "valkey://store",
        "redis://:p%40ss@10.0.0.1:6379/0",
        "rediss://u:p@store:1",
        "valkeys://[::1]",
    ],
)
def test_a_store_of_rates_is_named_by_a_url_whose_password_is_not_shown(url: str) -> None:
    settings = read(WEPEOPLE_RATE_STORE=url)
    assert settings.rate_store is not None
    assert settings.rate_store.get_secret_value() == url
    assert "://" not in repr(settings.rate_store)
    with pytest.raises(SettingsError) as refused:
        read(WEPEOPLE_RATE_STORE="valkey://:sesame@store:port")
    assert "sesame" not in str(refused.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        read().http = "host:1"  # type: ignore[misc]


def test_help_names_every_setting_its_default_and_its_meaning() -> None:
    shown = {variable: (default, meaning) for variable, default, meaning in settings_help()}
    assert len(shown) == len(Settings.model_fields)
    assert shown["WEPEOPLE_HTTP"][0] == "127.0.0.1:8080"
    assert shown["WEPEOPLE_LOG_LEVEL"][0] == "info"
    assert shown["DATABASE_URL"][0] == ""
    assert all(meaning for _, meaning in shown.values())
