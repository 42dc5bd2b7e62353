"""The TLS files that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from grpc_api.certificates import TlsFiles


def tls_files(settings: Settings) -> TlsFiles | None:
    """The files, or None without TLS."""
    if settings.grpc_tls_certificate is None or settings.grpc_tls_key is None:
        return None
    from grpc_api.certificates import TlsFiles

    return TlsFiles(
        settings.grpc_tls_certificate, settings.grpc_tls_key, settings.grpc_tls_client_ca
    )


def check_tls_files(settings: Settings) -> None:
    """Raise :class:`SettingsError`, which names the variable, if a file cannot be used."""
    files = tls_files(settings)
    if files is None:
        return
    from grpc_api import certificates

    try:
        certificates.read(files)
    except certificates.TlsFileError as error:
        raise SettingsError(f"WEPEOPLE_GRPC_TLS_{error.role.upper()}: {error}") from None
