"""A server process: it serves beside others, for as long as its supervisor lives.

The supervisor runs ``python -m service.processes.server_process SLOT SIZE DESCRIPTOR``: the slot in
a shared state of that size, and its memory. The process says on stdout, in one line, that it is
ready or why it cannot be. Its stdin is the lifeline: when that ends, however the supervisor did,
the process finishes its requests and ends, as it does on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

from core.errors import IngestError
from core.postgres.errors import DatabaseUnusableError
from service.compose import running
from service.logs import configure_logs
from service.metrics import FOLDER_VARIABLE, count_in_files
from service.postgres.embedded import EmbeddedPostgresError
from service.postgres.open_database import open_database
from service.processes.shared_state import SharedState
from service.runtime import max_stop_seconds, run, spare_the_garbage_collector
from service.settings import Settings

log = logging.getLogger("service.processes.server_process")  # which is run as __main__

LIFELINE: Final = 0  # stdin
FAILED: Final = 1


async def work(settings: Settings, shared_state: SharedState) -> None:
    """Serve until the lifeline ends or SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = loop.create_future()

    def finish() -> None:
        loop.remove_reader(LIFELINE)
        if not stop.done():
            stop.set_result(None)
            # Nobody may be left to end a process that hangs: then the kernel does.
            signal.setitimer(signal.ITIMER_REAL, max_stop_seconds(settings.drain_seconds))

    loop.add_reader(LIFELINE, finish)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, finish)
    async with (
        open_database(settings) as conninfo,
        running(settings, conninfo, shared_state=shared_state) as service,
    ):
        spare_the_garbage_collector()
        _say("ready")
        await asyncio.wait([stop, service.failure], return_when=asyncio.FIRST_COMPLETED)
        if service.failure.done():
            service.failure.result()
        log.info("stopping: finishing what was begun")


def _say(word: str, reason: str = "") -> None:
    sys.stdout.write(json.dumps([word, reason]) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve; exits 0 after a drain, 1 if it cannot."""
    slot, size, descriptor = map(int, sys.argv[1:])
    settings = Settings.from_environment(os.environ)
    configure_logs(settings.log_level, process=slot)
    count_in_files(Path(os.environ[FOLDER_VARIABLE]), slot)
    try:
        run(work(settings, SharedState(size, descriptor)))
    except (OSError, DatabaseUnusableError, EmbeddedPostgresError, IngestError) as error:
        _say("failed", error.message if isinstance(error, IngestError) else str(error))
        sys.exit(FAILED)
    except Exception:
        log.exception("crashed")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
