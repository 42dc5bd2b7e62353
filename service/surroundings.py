"""The surroundings of a service's parts: what each of them is made with."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from core.clock import Clock
from core.counters import Counters
from core.tracing import Tracer
from service.processes.shared_state import SharedState
from service.settings import Settings


class Surroundings(NamedTuple):
    """``failure`` gets an exception if a part has ended by itself; never a result.

    ``tracer``: None if traces are off.
    """

    settings: Settings
    clock: Clock
    counters: Counters
    shared_state: SharedState
    failure: asyncio.Future[None]
    tracer: Tracer | None
