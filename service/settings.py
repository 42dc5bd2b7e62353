"""Settings from the environment: every variable, its default and its meaning, in one table."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from service import setting_checks
from service.setting_checks import AUTOMATIC, MAX_SERVER_PROCESSES, MIN_SECRET_CHARACTERS

PREFIX: Final = "WEPEOPLE_"
# Read by `produce` and by the examples of the reference page; no settings of the service.
CLIENT_VARIABLES: Final = frozenset({"WEPEOPLE_BASE_URL", "WEPEOPLE_API_KEY"})


class SettingsError(Exception):
    """A setting is unknown or wrong; the message names the variable and what it should be."""


def _default_data_dir() -> Path:
    # Root's own folders cannot be reached by the user PostgreSQL runs as, and need not be.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/wepeople-ingest")
    return Path(platformdirs.user_data_dir("wepeople-ingest", appauthor=False))


def host_and_port(given: str) -> tuple[str, int]:
    """The host, without brackets, and the port of HOST:PORT."""
    host, _, port = given.rpartition(":")
    return host.strip("[]"), int(port)


Address = Annotated[str, AfterValidator(setting_checks.address)]
Secret = Annotated[SecretStr, AfterValidator(setting_checks.secret)]
ServerProcesses = Annotated[int | Literal["auto"], PlainValidator(setting_checks.server_processes)]


def _variable(name: str, meaning: str, **options: Any) -> Any:
    return Field(alias=name, description=meaning, **options)


class Settings(BaseModel):
    """All that an operator can set. Immutable; ``model_copy(update=…)`` for the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    http: Address = _variable(
        "WEPEOPLE_HTTP", "where the REST API listens, HOST:PORT", default="127.0.0.1:8080"
    )
    grpc: Address = _variable(
        "WEPEOPLE_GRPC", "where the gRPC API listens, HOST:PORT", default="127.0.0.1:50051"
    )
    database_url: str | None = _variable(
        "DATABASE_URL",
        "a PostgreSQL server, version 15 or later, instead of the embedded one",
        default=None,
    )
    data_dir: Path = _variable(
        "WEPEOPLE_DATA_DIR",
        "the folder of the embedded database",
        default_factory=_default_data_dir,
    )
    http_tls_certificate: Path | None = _variable(
        "WEPEOPLE_HTTP_TLS_CERTIFICATE",
        "PEM file with the certificate chain; with the key it makes HTTP speak TLS",
        default=None,
    )
    http_tls_key: Path | None = _variable(
        "WEPEOPLE_HTTP_TLS_KEY", "PEM file with the certificate's private key", default=None
    )
    grpc_tls_certificate: Path | None = _variable(
        "WEPEOPLE_GRPC_TLS_CERTIFICATE",
        "PEM file with the certificate chain; with the key it makes gRPC speak TLS",
        default=None,
    )
    grpc_tls_key: Path | None = _variable(
        "WEPEOPLE_GRPC_TLS_KEY", "PEM file with the certificate's private key", default=None
    )
    grpc_tls_client_ca: Path | None = _variable(
        "WEPEOPLE_GRPC_TLS_CLIENT_CA",
        "PEM file of the authority whose certificates gRPC clients must have (mutual TLS)",
        default=None,
    )
    server_processes: ServerProcesses = _variable(
        "WEPEOPLE_WORKERS",
        f"how many processes serve together on the same ports, 1 to {MAX_SERVER_PROCESSES}; "
        "auto: as many as this machine has use for",
        default=AUTOMATIC,
    )
    stream_max_seconds: float = _variable(
        "WEPEOPLE_STREAM_MAX_SECONDS",
        "the age at which a gRPC stream is asked to open again, for load to spread",
        default=3_600.0,
        gt=0,
        le=86_400,
    )
    key_secret: Secret | None = _variable(
        "WEPEOPLE_KEY_SECRET",
        f"keys the digests of API keys; set it, at least {MIN_SECRET_CHARACTERS} characters, "
        "before the first key or operator is made, to keep it outside the database",
        default=None,
    )
    key_secret_previous: Annotated[SecretStr, AfterValidator(setting_checks.secret)] | None = (
        _variable(
            "WEPEOPLE_KEY_SECRET_PREVIOUS",
            "the one before, while WEPEOPLE_KEY_SECRET is changed (docs/operations.md)",
            default=None,
        )
    )
    public_url: Annotated[str, AfterValidator(setting_checks.url)] | None = _variable(
        "WEPEOPLE_PUBLIC_URL",
        "where clients reach the service, for the links in errors; by default where HTTP listens",
        default=None,
    )
    rate_store: Annotated[SecretStr, AfterValidator(setting_checks.rate_store)] | None = _variable(
        "WEPEOPLE_RATE_STORE",
        "a Valkey or Redis server, valkey://HOST:PORT, in which all services over one database "
        "count rates together; by default each counts its own",
        default=None,
    )
    event_retention_months: int | None = _variable(
        "WEPEOPLE_EVENT_RETENTION_MONTHS",
        "whole months of events to keep before the current one; by default all are kept",
        default=None,
        ge=1,
        le=1_200,
    )
    max_connections_per_address: int | None = _variable(
        "WEPEOPLE_MAX_CONNECTIONS_PER_ADDRESS",
        "how many HTTP connections one address may hold to each server process, for a service "
        "without a proxy in front; by default as many as there may be",
        default=None,
        ge=1,
    )
    drain_seconds: float = _variable(
        "WEPEOPLE_DRAIN_SECONDS",
        "how long a stopping service finishes what it has begun",
        default=10.0,
        gt=0,
        le=600,
    )
    drain_grace_seconds: float = _variable(
        "WEPEOPLE_DRAIN_GRACE_SECONDS",
        "how long a stopping service is not ready but still accepts connections, for balancers to "
        "notice; then it drains",
        default=0.0,
        ge=0,
        le=600,
    )
    otlp_endpoint: Annotated[str, AfterValidator(setting_checks.url)] | None = _variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "a collector of OpenTelemetry, http://HOST:PORT, that traces are sent to (docs/traces.md); "
        "by default there are none",
        default=None,
    )
    log_level: Annotated[str, AfterValidator(setting_checks.level)] = _variable(
        "WEPEOPLE_LOG_LEVEL",
        "debug (with a line for every request), info, warning or error",
        default="INFO",
    )

    keep_rejected_items: bool = _variable(
        "WEPEOPLE_KEEP_REJECTED_ITEMS",
        "true to keep the content of rejected events for `wepeople-ingest rejections`, too; it may "
        "be personal data",
        default=False,
    )

    @model_validator(mode="after")
    def _previous_secret_has_a_successor(self) -> Self:
        if self.key_secret_previous is not None and self.key_secret is None:
            raise ValueError("WEPEOPLE_KEY_SECRET: must be set if WEPEOPLE_KEY_SECRET_PREVIOUS is")
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        for api, certificate, key in (
            ("HTTP", self.http_tls_certificate, self.http_tls_key),
            ("GRPC", self.grpc_tls_certificate, self.grpc_tls_key),
        ):
            if (certificate is None) != (key is None):
                raise ValueError(
                    f"WEPEOPLE_{api}_TLS_CERTIFICATE: must be set together with "
                    f"WEPEOPLE_{api}_TLS_KEY"
                )
        if self.grpc_tls_client_ca is not None and self.grpc_tls_certificate is None:
            raise ValueError(
                "WEPEOPLE_GRPC_TLS_CERTIFICATE: must be set if WEPEOPLE_GRPC_TLS_CLIENT_CA is"
            )
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables; raises :class:`SettingsError` for unknown and for wrong ones.

        A variable that is set to nothing counts as not set.
        """
        known = set(_variables())
        # Compared without what all have in common, which would make any two alike.
        bare_names = {name.removeprefix(PREFIX): name for name in known}
        for name in environment:
            if name.startswith(PREFIX) and name not in known | CLIENT_VARIABLES:
                bare = name.removeprefix(PREFIX)
                near = difflib.get_close_matches(bare, bare_names, n=1)
                hint = (
                    f"did you mean {bare_names[near[0]]}?"
                    if near
                    else "see `wepeople-ingest serve --help`"
                )
                raise SettingsError(f"unknown variable {name}: {hint}")
        given = {name: environment[name] for name in known if environment.get(name)}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            reason = str(first.get("ctx", {}).get("error", first["msg"]))
            # An error between settings names the variable itself.
            where = f"{first['loc'][0]}: " if first["loc"] else ""
            raise SettingsError(f"{where}{reason}") from None


def _variables() -> dict[str, FieldInfo]:
    return {str(field.alias): field for field in Settings.model_fields.values()}


def settings_help() -> list[tuple[str, str, str]]:
    """``(variable, default, meaning)`` of every setting."""
    return [
        (name, _default(field), field.description or "") for name, field in _variables().items()
    ]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    return (
        ""
        if value is None
        else str(value).lower()
        if field.alias == "WEPEOPLE_LOG_LEVEL"
        else str(value)
    )
