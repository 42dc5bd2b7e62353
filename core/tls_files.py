"""The TLS files of a listener: checked at the start, and read again when they are renewed."""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from core.certificate_expiry import earliest_end

log = logging.getLogger(__name__)

T = TypeVar("T")

CHECK_SECONDS: Final = 1.0  # between two looks whether a file has changed


class TlsFiles(NamedTuple):
    """PEM files. With ``client_ca``, clients must present a certificate that it has signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class TlsFileError(OSError):
    """A TLS file is missing, cannot be read or does not fit; ``role`` is its name in TlsFiles."""

    def __init__(self, role: str, path: Path, reason: str) -> None:
        super().__init__(f"cannot use {path} for TLS: {reason}")
        self.role = role


def content(role: str, path: Path) -> bytes:
    """The bytes of a file; raises :class:`TlsFileError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsFileError(role, path, error.strerror or str(error)) from None


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that shows the certificate; raises :class:`TlsFileError` if a file does not fit."""
    content("certificate", files.certificate)
    content("key", files.key)
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
        content("client_ca", files.client_ca)
        _check_has_certificate("client_ca", files.client_ca)
    return context


def _check_has_certificate(role: str, path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise TlsFileError(role, path, f"it has no certificate in PEM ({error})") from None


def _end(path: Path) -> float:
    try:
        return earliest_end(path.read_text("ascii", "replace"))
    except (OSError, ValueError) as error:  # it serves nevertheless
        log.warning("cannot tell when the certificate %s ends: %s", path, error)
        return math.nan


class FollowedFiles(Generic[T]):
    """The reading of TLS files as they are now; a change counts for new connections.

    The files are looked at when a client connects. Files that cannot be used are reported once, and
    the reading before them stays.
    """

    def __init__(self, files: TlsFiles, read: Callable[[TlsFiles], T]) -> None:
        self._files = files
        self._read_files = read
        self._lock = threading.Lock()  # the gRPC library asks in threads of its own
        self._stamps: list[object] = []
        self._next_check = 0.0
        self._told = ""  # of files that cannot be used
        self._reading: T | None = None
        self._ends_at = 0.0

    def load(self) -> T:
        """Read the files for the first time; raises :class:`TlsFileError`."""
        self._stamps = list(self._stamps_now())
        return self._take()

    def reload(self) -> None:
        """Look at the files now, and read them even if they seem to be the same."""
        with self._lock:
            self._stamps = list(self._stamps_now())
            self._read()

    def latest(self) -> T:
        """The latest reading, once they are loaded; the same object as long as nothing is new."""
        with self._lock:
            now = time.monotonic()
            if now >= self._next_check:
                self._next_check = now + CHECK_SECONDS
                stamps = list(self._stamps_now())
                if stamps != self._stamps:
                    self._stamps = stamps
                    self._read()
            assert self._reading is not None
            return self._reading

    def ends_at(self) -> float:
        """When the certificate in use ends, or one behind it, in seconds since the epoch.

        NaN if that is not known.
        """
        self.latest()
        return self._ends_at

    def _take(self) -> T:
        self._reading = reading = self._read_files(self._files)
        self._ends_at = _end(self._files.certificate)
        return reading

    def _read(self) -> None:
        try:
            self._take()
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
