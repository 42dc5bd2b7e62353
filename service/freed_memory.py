"""Returns memory to the system that a burst of requests has used.

glibc keeps memory that was freed between pieces still in use. After a burst of bodies that is most
of it, until somebody asks for it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

CHECK_SECONDS: Final = 5.0
MIN_RETURNED_BYTES: Final = 32 * 1_048_576  # less is not worth a look

_STATM: Final = Path("/proc/self/statm")


async def return_memory() -> None:
    """Have freed memory returned whenever much more is resident than at the last time, for ever."""
    trim = _trim()
    if trim is None:
        await asyncio.get_running_loop().create_future()
        return
    kept = resident_bytes()
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        kept = min(kept, resident_bytes())
        if resident_bytes() - kept > MIN_RETURNED_BYTES:
            # It takes up to some 50 ms, without Python's lock.
            await asyncio.to_thread(trim, 0)
            kept = resident_bytes()


def resident_bytes() -> int:
    """The memory of this process that is resident."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _trim() -> Callable[[int], object] | None:
    """glibc's ``malloc_trim``; None with another library or system."""
    if not _STATM.exists():
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
