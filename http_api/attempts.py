"""Bounds how many secrets that nobody has an address may try: tokens, links, sessions."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_UNKNOWN_A_MINUTE: Final = 10
WINDOW_SECONDS: Final = 60.0
MAX_ADDRESSES: Final = 10_000
MAX_KNOWN: Final = 1_000  # secrets that have been good, which go on whatever their address tries
_IPV6_SITE_BITS: Final = 64  # one party has as many addresses as it likes in it


class TooManyAttemptsError(Exception):
    """An address has tried too many unknown secrets, and may again after the seconds."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("Too many unknown tokens came from this address. Try again later.")
        self.retry_after_seconds = retry_after_seconds


class Attempts:
    """The unknown secrets that addresses have tried within a minute, of one process.

    The oldest entry of a full map gives way. Of secrets, digests are kept.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()  # begin, attempts
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def check(self, address: str, secret: str) -> None:
        """Raises :class:`TooManyAttemptsError` unless the secret may be looked up."""
        began, count = self._window(_party(address))
        if count >= MAX_UNKNOWN_A_MINUTE and _digest(secret) not in self._known:
            left = began + WINDOW_SECONDS - self._monotonic()
            raise TooManyAttemptsError(max(1, math.ceil(left)))

    def note_unknown(self, address: str) -> None:
        """Count a secret that nobody has."""
        party = _party(address)
        began, count = self._window(party)
        self._windows[party] = (began, count + 1)
        if len(self._windows) > MAX_ADDRESSES:
            self._windows.popitem(last=False)

    def note_known(self, secret: str) -> None:
        """Remember a secret that somebody has."""
        self._known[_digest(secret)] = None
        self._known.move_to_end(_digest(secret))
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _window(self, party: str) -> tuple[float, int]:
        now = self._monotonic()
        began, count = self._windows.get(party, (now, 0))
        if now - began >= WINDOW_SECONDS:
            del self._windows[party]
            return now, 0
        return began, count


def _party(address: str) -> str:
    """Return whom an address belongs to, as far as it tells."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, _IPV6_SITE_BITS), strict=False))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
