"""Whether a reader sits at the machine that the service runs on, and may see the demo's key."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

# A proxy on this machine, too, connects from it: for somebody else.
_FORWARDED: Final = re.compile(r"via|.*forwarded.*|.*-ip")
# Browsers are newer. Proxies with no more than an address to pass to often are not.
_PROXY_VERSION: Final = "1.0"
_HOST: Final = re.compile(r"(localhost|[0-9.]+|\[[0-9a-f:.]+\])(:\d+)?", re.ASCII | re.IGNORECASE)


def is_from_this_machine(request: HTTPConnection) -> bool:
    """Whether the peer is this machine, for itself, and asked for it by a name of its own.

    A site's name that leads here is none: pages of that site could read ours. A proxy that keeps
    HTTP/1.1, names this machine as the host and tells nothing of its client is not recognized.
    """
    if request.client is None or not _is_loopback(request.client.host):
        return False
    if request.scope.get("http_version") == _PROXY_VERSION:
        return False
    if any(_FORWARDED.fullmatch(name) for name in request.headers):
        return False
    return _is_own_name(request.headers.get("host", ""))


def leads_to_this_machine(url: str) -> bool:
    """Whether a URL leads everybody to the machine that they sit at."""
    return _is_own_name(urlsplit(url).netloc)


def _is_own_name(host: str) -> bool:
    """Whether HOST[:PORT] is a name that every machine has for itself."""
    named = _HOST.fullmatch(host)
    if named is None:
        return False
    return named[1].lower() == "localhost" or _is_loopback(named[1].strip("[]"))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
