"""The TLS files of the gRPC server, in the form that its library takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import grpc

from core.tls_files import FollowedFiles, TlsFiles, content, server_context


def read(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """The certificate, its key and the authority of clients; raises :class:`TlsFileError`."""
    certificate = content("certificate", files.certificate)
    key = content("key", files.key)
    client_ca = None if files.client_ca is None else content("client_ca", files.client_ca)
    server_context(files)  # the library would blame the address for a wrong file
    return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)


class Certificates:
    """The server's certificate, as its files have it (:class:`core.tls_files.FollowedFiles`)."""

    def __init__(self, files: TlsFiles) -> None:
        self._wants_client = files.client_ca is not None
        self._followed = FollowedFiles(files, read)
        self._given: grpc.ServerCertificateConfiguration | None = None
        self.reload = self._followed.reload
        self.ends_at = self._followed.ends_at

    def load(self) -> None:
        """Read the files for the first time; raises :class:`TlsFileError`."""
        self._given = self._followed.load()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files, once they are loaded."""
        assert self._given is not None
        # The library takes None for no change, which its types do not say.
        following = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._next)
        return grpc.dynamic_ssl_server_credentials(self._given, following, self._wants_client)

    def _next(self) -> grpc.ServerCertificateConfiguration | None:
        """The configuration for a new connection; None if it is that of the one before."""
        latest = self._followed.latest()
        if latest is self._given:
            return None
        self._given = latest
        return latest
