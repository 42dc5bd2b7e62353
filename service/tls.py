"""The TLS files that the settings name, and a warning where keys would travel without TLS."""

from __future__ import annotations

import ipaddress
import logging
from typing import Final

from core.tls_files import TlsFileError, TlsFiles, server_context
from service.settings import Settings, SettingsError, host_and_port

log = logging.getLogger(__name__)

LOCAL_NAMES: Final = ("localhost", "localhost.localdomain")


def http_tls_files(settings: Settings) -> TlsFiles | None:
    """The files of HTTP, or None without TLS."""
    if settings.http_tls_certificate is None or settings.http_tls_key is None:
        return None
    return TlsFiles(settings.http_tls_certificate, settings.http_tls_key)


def grpc_tls_files(settings: Settings) -> TlsFiles | None:
    """The files of gRPC, or None without TLS."""
    if settings.grpc_tls_certificate is None or settings.grpc_tls_key is None:
        return None
    return TlsFiles(
        settings.grpc_tls_certificate, settings.grpc_tls_key, settings.grpc_tls_client_ca
    )


def check_tls_files(settings: Settings) -> None:
    """Raise :class:`SettingsError`, which names the variable, if a file cannot be used."""
    for api, files in (("HTTP", http_tls_files(settings)), ("GRPC", grpc_tls_files(settings))):
        if files is None:
            continue
        try:
            server_context(files)
        except TlsFileError as error:
            raise SettingsError(f"WEPEOPLE_{api}_TLS_{error.role.upper()}: {error}") from None


def warn_of_plaintext(settings: Settings) -> None:
    """Warn of each API that other machines reach without TLS.

    A public URL of https says that a proxy in front speaks TLS.
    """
    if settings.public_url is not None and settings.public_url.startswith("https://"):
        return
    listeners = (
        ("HTTP", settings.http, http_tls_files(settings)),
        ("GRPC", settings.grpc, grpc_tls_files(settings)),
    )
    for api, address, files in listeners:
        if files is None and not is_local(host_and_port(address)[0]):
            log.warning(
                "%s is open to other machines without TLS, and API keys can be read on the way: "
                "set WEPEOPLE_%s_TLS_CERTIFICATE and WEPEOPLE_%s_TLS_KEY, or WEPEOPLE_PUBLIC_URL "
                "to an https:// URL if a proxy in front speaks TLS",
                address,
                api,
                api,
            )


def is_local(host: str) -> bool:
    """Whether an address is this machine's own for certain."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in LOCAL_NAMES
