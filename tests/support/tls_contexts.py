"""The TLS context of HTTP clients that are told of no certificates."""

from __future__ import annotations

import functools
import os
import ssl
from typing import Any

import certifi


def share_default() -> None:
    """Have clients that trust the system's authorities share a context, whatever they speak.

    httpx makes one for each client and for each request without one. It reads all the authorities,
    which takes 30 ms of CPU, ten times as much as a request.
    """
    make = ssl.create_default_context
    shared = functools.cache(make)

    def create_default_context(*arguments: Any, **options: Any) -> ssl.SSLContext:
        # Others may be changed by whoever makes them.
        is_default = not arguments and options in (
            {"cafile": os.environ.get("SSL_CERT_FILE")},
            {"cafile": certifi.where()},
        )
        return (shared if is_default else make)(*arguments, **options)

    setattr(ssl, "create_default_context", create_default_context)  # noqa: B010 - it is a function
