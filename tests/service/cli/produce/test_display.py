"""The progress bar."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
from pathlib import Path

from tests.service.cli.produce.events_file import (
    numbered,
    produce_process,
    write,
)
from tests.support.running_service import Addresses
from tests.support.tenant import make_tenant


def test_a_terminal_sees_how_far_it_is(server: Addresses, tmp_path: Path) -> None:
    tenant = asyncio.run(make_tenant(server.database_url, key_requests_per_second=50))
    file = write(tmp_path / "events.ndjson", [*numbered(700), "bad\x1b]0;title\x07"])
    ours, theirs = pty.openpty()
    try:
        with produce_process(server, tenant, file, "--batch", 10, stderr=theirs) as started:
            os.close(theirs)
            shown = b""
            with contextlib.suppress(OSError):  # as the other end of a terminal is closed
                while piece := os.read(ours, 4_096):
                    shown += piece
            out, _ = started.communicate(timeout=30)
    finally:
        os.close(ours)
    assert started.returncode == 1
    assert "accepted" in out
    text = shown.decode()
    assert "700 acked" in text.replace("701", "700")
    assert "events/s" in text
    assert "line 701: invalid_body" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
