"""The end of a certificate's validity, read from its DER (RFC 5280, section 4.1).

Python's ssl tells it only of a certificate that a peer has shown and that was verified.
"""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime
from typing import Final

SEQUENCE: Final = 0x30
VERSION: Final = 0xA0  # left out in version 1
UTC_TIME: Final = 0x17  # with a year of two digits, of 1950 to 2049
_PEM: Final = re.compile(
    r"-----BEGIN (?P<kind>(X509 |TRUSTED )?CERTIFICATE)-----(?P<base64>.*?)-----END (?P=kind)-----",
    re.DOTALL,
)


def earliest_end(pem: str) -> float:
    """When the first of the certificates in a PEM text ends, in seconds since the epoch.

    Raises ValueError if there is none, or none that can be read.
    """
    return min(_end(binascii.a2b_base64(one["base64"])) for one in _PEM.finditer(pem))


def _end(der: bytes) -> float:
    try:
        _, certificate, _ = _element(der)
        _, fields, _ = _element(certificate)
        tag, _, rest = _element(fields)
        if tag == VERSION:
            _, _, rest = _element(rest)  # the serial number
        for _ in ("signature", "issuer"):
            _, _, rest = _element(rest)
        tag, validity, _ = _element(rest)
        if tag != SEQUENCE:
            raise ValueError("it is no certificate")
        _, _, rest = _element(validity)  # its beginning
        tag, text, _ = _element(rest)
        return _time(tag, text.decode("ascii"))
    except IndexError:
        raise ValueError("it is cut off") from None


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """The tag and the content of the first element, and what follows it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    return tag, data[start : start + length], data[start + length :]


def _time(tag: int, text: str) -> float:
    if tag == UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
