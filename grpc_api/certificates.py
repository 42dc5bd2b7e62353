"""The TLS files of the gRPC server: checked at the start, and read again when they are renewed."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, cast

import grpc

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 1.0  # between two looks whether a file has changed


class TlsFiles(NamedTuple):
    """PEM files. With ``client_ca``, clients must present a certificate that it has signed."""

    certificate: Path
    key: Path
    client_ca: Path | None


class TlsFileError(OSError):
    """A TLS file is missing, cannot be read or does not fit; ``role`` is its name in TlsFiles."""

    def __init__(self, role: str, path: Path, reason: str) -> None:
        super().__init__(f"cannot use {path} for TLS: {reason}")
        self.role = role


def read(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """The certificate, its key and the authority of clients; raises :class:`TlsFileError`."""
    certificate = _content("certificate", files.certificate)
    key = _content("key", files.key)
    client_ca = None if files.client_ca is None else _content("client_ca", files.client_ca)
    # Checked here, because the library blames the address for a wrong file.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _check_has_certificate("certificate", files.certificate)
    try:
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except (OSError, ValueError) as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            reason = f"it is not the key of {files.certificate}"
        else:
            reason = f"it has no private key in PEM without a password ({error})"
        raise TlsFileError("key", files.key, reason) from None
    if files.client_ca is not None:
        _check_has_certificate("client_ca", files.client_ca)
    return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)


def _content(role: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsFileError(role, path, error.strerror or str(error)) from None


def _check_has_certificate(role: str, path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise TlsFileError(role, path, f"it has no certificate in PEM ({error})") from None


class Certificates:
    """The server's certificate, as its files have it; a change counts for new connections.

    The files are looked at when a client connects. Files that cannot be used are reported once, and
    the certificate before them stays.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()  # the library asks in threads of its own
        self._stamps: list[object] = []
        self._next_check = 0.0
        self._told = ""  # of files that cannot be used
        self._renewed: grpc.ServerCertificateConfiguration | None = None

    def load(self) -> None:
        """Read the files for the first time; raises :class:`TlsFileError`."""
        self._stamps = list(self._stamps_now())
        self._renewed = read(self._files)

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files, once they are loaded."""
        assert self._renewed is not None
        initial, self._renewed = self._renewed, None
        wants_client = self._files.client_ca is not None
        # The library takes None for no change, which its types do not say.
        following = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._next)
        return grpc.dynamic_ssl_server_credentials(initial, following, wants_client)

    def reload(self) -> None:
        """Look at the files now, and read them even if they seem to be the same."""
        with self._lock:
            self._stamps = list(self._stamps_now())
            self._read()

    def _next(self) -> grpc.ServerCertificateConfiguration | None:
        """The configuration for a new connection; None if it is that of the one before."""
        with self._lock:
            now = time.monotonic()
            if now >= self._next_check:
                self._next_check = now + CHECK_SECONDS
                stamps = list(self._stamps_now())
                if stamps != self._stamps:
                    self._stamps = stamps
                    self._read()
            renewed, self._renewed = self._renewed, None
            return renewed

    def _read(self) -> None:
        try:
            self._renewed = read(self._files)
        except TlsFileError as error:
            self._stamps = []  # it is tried again, whatever made it fail
            if str(error) != self._told:
                self._told = str(error)
                log.error("%s; the certificate before it stays in use", error)
        else:
            self._told = ""
            log.info("read the TLS certificate %s again", self._files.certificate)

    def _stamps_now(self) -> Iterator[object]:
        """What changes with the files; taken before they are read, so that no change is missed."""
        for path in filter(None, self._files):
            try:
                status = path.stat()
            except OSError as error:
                yield error.errno
            else:
                yield (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
