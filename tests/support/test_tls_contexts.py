"""The TLS context that clients share."""

from __future__ import annotations

import ssl

import certifi
import httpx


def test_clients_that_are_told_of_no_certificates_share_one() -> None:
    assert httpx.create_ssl_context() is httpx.create_ssl_context()


def test_others_have_one_of_their_own() -> None:
    server = ssl.Purpose.CLIENT_AUTH
    contexts = [
        ssl.create_default_context(),
        ssl.create_default_context(),
        ssl.create_default_context(server, cafile=certifi.where()),
        ssl.create_default_context(server, cafile=certifi.where()),
        httpx.create_ssl_context(),
    ]
    assert len({*map(id, contexts)}) == len(contexts)
