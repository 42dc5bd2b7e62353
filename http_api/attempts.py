"""Bounds how many secrets that nobody has an address may try: tokens, links, sessions."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from fastapi import Request

from core.admin.operators import TokenRefusedError

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


def peer_address(request: Request) -> str:
    """Return the address that a request came from: behind a proxy the proxy's; empty if unknown."""
    return request.client.host if request.client else ""


class Attempts:
    """The unknown secrets that addresses have tried within a minute, of one process.

    The oldest entry of a full map gives way. Of secrets, digests are kept.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()  # begin, attempts
        self._known: OrderedDict[bytes, None] = OrderedDict()

    @contextlib.contextmanager
    def attempt(self, address: str, secret: str) -> Iterator[None]:
        """The time in which a secret is looked up; TokenRefusedError out of it tells it is no good.

        Raises :class:`TooManyAttemptsError` if it may not be looked up. An attempt counts from its
        begin until it turns out well: else many at once would all pass before the first is refused.
        """
        party, key = _party(address), _digest(secret)
        is_counted = key not in self._known
        if is_counted:
            self._count(party)
        try:
            yield
        except TokenRefusedError:
            self._known.pop(key, None)
            raise
        except BaseException:  # nobody knows
            if is_counted:
                self._take_back(party)
            raise
        if is_counted:
            self._take_back(party)
        self.note_known(secret)

    def note_known(self, secret: str) -> None:
        """Remember a secret that somebody has."""
        key = _digest(secret)
        self._known[key] = None
        self._known.move_to_end(key)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _count(self, party: str) -> None:
        began, count = self._window(party)
        if count >= MAX_UNKNOWN_A_MINUTE:
            left = began + WINDOW_SECONDS - self._monotonic()
            raise TooManyAttemptsError(max(1, math.ceil(left)))
        self._windows[party] = (began, count + 1)
        if len(self._windows) > MAX_ADDRESSES:
            self._windows.popitem(last=False)

    def _take_back(self, party: str) -> None:
        began, count = self._window(party)
        if count:
            self._windows[party] = (began, count - 1)

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
