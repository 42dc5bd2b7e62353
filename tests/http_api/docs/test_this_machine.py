"""Who counts as a reader at the machine itself; test_portal.py has what such a reader sees."""

from __future__ import annotations

import pytest
from fastapi import Request

from http_api.docs.this_machine import is_from_this_machine


@pytest.mark.parametrize(
    ("peer", "host", "is_here"),
    [
        ("127.0.0.1", "localhost:8080", True),
        ("127.0.0.9", "127.0.0.1", True),
        ("::1", "[::1]:8080", True),
        ("192.0.2.7", "localhost", False),  # a name is easily said
        ("2001:db8::7", "[::1]", False),
        ("127.0.0.1", "ingest.example", False),
        ("127.0.0.1", "", False),
        (None, "localhost", False),
    ],
)
def test_peer_and_host_are_both_of_this_machine(peer: str | None, host: str, is_here: bool) -> None:
    client = None if peer is None else (peer, 40_000)
    scope = {"type": "http", "client": client, "headers": [(b"host", host.encode())]}
    assert is_from_this_machine(Request(scope)) is is_here
