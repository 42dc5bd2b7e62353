"""A pressure: what it is called, what it needs, and what it tells while it lasts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

EVERY_LANE: Final = ("http", "grpc", "stream")


@dataclass(frozen=True)
class Target:
    """The service, and the tenant in whose name the pressure is made."""

    http: tuple[str, int]
    grpc: tuple[str, int]
    database_url: str
    organization: str  # its UUID
    key: str

    @property
    def grpc_address(self) -> str:
        """HOST:PORT."""
        return f"{self.grpc[0]}:{self.grpc[1]}"


@dataclass
class Tally:
    """What came of the pressure.

    ``sent`` and ``acknowledged`` are events, by the label that their metadata carry; ``answered``
    are events that the service gave any answer about, so the rest may be stored or not.
    """

    answers: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    full: asyncio.Event = field(default_factory=asyncio.Event)  # all of it is there

    def as_json(self) -> dict[str, dict[str, int]]:
        """For another process."""
        names = ("answers", "sent", "answered", "acknowledged")
        return {name: dict(getattr(self, name)) for name in names}


Run = Callable[[Target, Tally], Awaitable[None]]


@dataclass(frozen=True)
class Bounds:
    """The row of contract section 12 that a pressure is judged by, for the quiet tenant's p99."""

    max_seconds: float = 0.5
    max_ratio: float = 50.0  # to its unloaded p50
    of_p99: bool = False  # the ratio is to its unloaded p99


ANY_FLOOD: Final = Bounds()
LOCKED_DATA: Final = Bounds(max_seconds=0.25, max_ratio=2.0, of_p99=True)


@dataclass(frozen=True)
class Pressure:
    """``tenant``: options of its maker. ``descriptors``: ``ulimit -n`` of the service.

    ``silent``: it does not wait for answers, so none prove that it reached the service.
    """

    name: str
    run: Run
    about: str
    tenant: Mapping[str, Any]
    bounds: Bounds
    descriptors: int | None
    silent: bool


PRESSURES: Final[dict[str, Pressure]] = {}
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def pressure(
    *,
    tenant: Mapping[str, Any] = _NOTHING,
    bounds: Bounds = ANY_FLOOD,
    descriptors: int | None = None,
    silent: bool = False,
) -> Callable[[Run], Run]:
    """Register a function as the pressure of its name; its docstring says what it does."""

    def register(run: Run) -> Run:
        name = getattr(run, "__name__", "")
        about = (run.__doc__ or "").strip().splitlines()[0]
        PRESSURES[name] = Pressure(name, run, about, tenant, bounds, descriptors, silent)
        return run

    return register
