"""A server process: it serves beside others, for as long as its supervisor lives.

The supervisor runs ``python -m service.processes.server_process SLOT SIZE DESCRIPTOR``. SLOT is the
process slot, SIZE the number of slots and DESCRIPTOR the shared state's memory. The process reports
on stdout, in one line of JSON, ``["ready", ""]`` or ``["failed", reason]``. Its stdin is the
lifeline: the kernel closes it however the supervisor ends, and the process then finishes its
requests and ends, as it does on SIGTERM. SIGHUP has it read the TLS files again.
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
from core.failure_log import one_line
from core.postgres.errors import DatabaseUnusableError
from service.gc_settings import configure_gc, postpone_gc
from service.hangup import Hangup
from service.logs import configure_logs
from service.metrics import FOLDER_VARIABLE, count_in_files
from service.postgres.embedded import EmbeddedPostgresError
from service.postgres.open_database import open_database
from service.processes.shared_state import SharedState
from service.runtime import DEMO_KEY_VARIABLE, max_stop_seconds, run
from service.settings import Settings

log = logging.getLogger("service.processes.server_process")  # __name__ is __main__

LIFELINE: Final = 0  # stdin
FAILED: Final = 1


async def serve(settings: Settings, shared_state: SharedState, shown_key: str | None) -> None:
    """Serve until the lifeline ends or SIGTERM."""
    from service.compose import running

    loop = asyncio.get_running_loop()
    stop = loop.create_future()

    def finish() -> None:
        loop.remove_reader(LIFELINE)
        if not stop.done():
            stop.set_result(None)
            # The supervisor may be gone, so a process that hangs is ended by the kernel.
            signal.setitimer(signal.ITIMER_REAL, max_stop_seconds(settings))

    loop.add_reader(LIFELINE, finish)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, finish)
    async with (
        open_database(settings) as conninfo,
        running(settings, conninfo, shared_state=shared_state, shown_key=shown_key) as service,
    ):
        configure_gc()
        hangup = Hangup()
        hangup.reload = service.reload
        hangup.use_loop()
        _report("ready")
        await asyncio.wait([stop, service.failure], return_when=asyncio.FIRST_COMPLETED)
        if service.failure.done():
            service.failure.result()
        log.info("stopping: finishing what was begun")


def _report(word: str, reason: str = "") -> None:
    sys.stdout.write(json.dumps([word, reason]) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve; exits 0 after a drain, 1 if it cannot."""
    postpone_gc()  # the service is imported from here on
    slot, size, descriptor = map(int, sys.argv[1:])
    shown_key = os.environ.pop(DEMO_KEY_VARIABLE, None)
    settings = Settings.from_environment(os.environ)
    configure_logs(settings.log_level, process=slot)
    count_in_files(Path(os.environ[FOLDER_VARIABLE]), slot)
    try:
        run(serve(settings, SharedState(size, descriptor), shown_key))
    except (OSError, DatabaseUnusableError, EmbeddedPostgresError, IngestError) as error:
        _report("failed", error.message if isinstance(error, IngestError) else one_line(error))
        sys.exit(FAILED)
    except Exception:
        log.exception("crashed")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
