"""TLS of a producer: its files, and the failures that another connection cannot cure.

The library tells which checks of its own have failed, in the text of a status. It does not tell
that the server has refused the client: the connection just ends, as it does when a server dies.
The server is asked again then, in TLS 1.2, where it refuses a client within the handshake.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import grpc

PROBES: Final = 2
PROBE_SECONDS: Final = 3.0  # of each, for a connection and for each answer in its handshake

_NO_CONNECTION: Final = "failed to connect to all addresses"
_OTHER_NAME: Final = "Hostname Verification Check failed"
_TLS_ERROR: Final = re.compile(r"OPENSSL_internal:(?P<name>\w+)(?:: (?P<why>[^:]+))?")
_TARGET: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):(?P<port>\d{1,5})")
# Alerts that tell of the server, and not of the two ends' certificates and versions.
_PASSING: Final = ("TLSV1_ALERT_INTERNAL_ERROR", "TLSV1_ALERT_USER_CANCELLED")


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files, read again for each connection, so that renewed ones are used.

    ``ca`` has the authorities that the server's certificate may be from; None means those that the
    gRPC library trusts. ``certificate`` and ``key`` are for servers that want a certificate of the
    client (mutual TLS). Raises ValueError if there is only one of the two.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate, key: must be given together")

    def credentials(self) -> grpc.ChannelCredentials:
        """The credentials of a channel; raises OSError if a file cannot be used."""
        _probe_context(self)  # the library would accept wrong files, and fail to connect
        ca, key, certificate = (
            None if path is None else path.read_bytes()
            for path in (self.ca, self.key, self.certificate)
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)


async def final_failure(target: str, tls: Tls | None, message: str) -> str | None:
    """The reason why no connection to a server can succeed; None if another attempt can.

    ``message`` is that of the status of an attempt. ``tls`` is None for connections in plaintext.
    """
    if _OTHER_NAME in message:
        return "the server's certificate is for another host name"
    if error := _TLS_ERROR.search(message):
        return _in_words(error["name"], error["why"])
    # A port that speaks both has no need of TLS when its server is slow.
    can_refuse = tls is not None or message.startswith(_NO_CONNECTION)
    if can_refuse and (place := _TARGET.fullmatch(target)):
        host, port = place["host"].strip("[]"), int(place["port"])
        return await asyncio.to_thread(_refusal, host, port, tls)
    return None


def _in_words(name: str, why: str | None) -> str | None:
    if name in _PASSING:
        return None
    if name == "CERTIFICATE_VERIFY_FAILED":
        return f"the server's certificate is not trusted: {why}"
    if name == "WRONG_VERSION_NUMBER":
        return "the server does not speak TLS"
    return f"the TLS handshake failed: {name}"


def _refusal(host: str, port: int, tls: Tls | None) -> str | None:
    """The reason why the server refuses a client like this one; None if it does not."""
    try:
        # More than once, as a server that dies ends a handshake too.
        probes = [_probe(host, port, _probe_context(tls)) for _ in range(PROBES)]
    except OSError:
        return None
    if tls is None:
        begun = all(probe.has_begun for probe in probes)
        return "the server speaks TLS and this client does not" if begun else None
    if not all(probe.has_begun and not probe.is_complete for probe in probes):
        return None
    if tls.certificate is None:
        return "the server wants a certificate of the client"
    return "the server does not accept the client's certificate"


class _Probe(NamedTuple):
    """A handshake: the server has begun it, and both sides have completed it."""

    has_begun: bool
    is_complete: bool


def _probe(host: str, port: int, context: ssl.SSLContext) -> _Probe:
    """Make a handshake and send nothing; raises OSError if there is no connection or no answer."""
    with (
        socket.create_connection((host, port), PROBE_SECONDS) as connection,
        context.wrap_socket(connection, do_handshake_on_connect=False) as handshake,
    ):
        try:
            handshake.do_handshake()
        except TimeoutError:
            raise
        except OSError:
            return _Probe(handshake.cipher() is not None, False)
        return _Probe(True, True)


def _probe_context(tls: Tls | None) -> ssl.SSLContext:
    """The client's side of a probe, which does not look at the server's certificate.

    Raises OSError, with their names, if the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if tls is None:
        return context
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    used = str(tls.ca)
    try:
        if tls.ca is not None:
            context.load_verify_locations(tls.ca)
        if tls.certificate is not None:
            used = f"{tls.certificate} with {tls.key}"
            context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
    except OSError as error:  # an SSLError is one
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise OSError(f"cannot use {used} for TLS: {why or error}") from None
    return context
