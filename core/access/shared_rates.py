"""Rates that several services share: each request is charged in one store, for all of them.

A service's own buckets are a copy of the store's, as of its last answer. Others only take tokens,
so the copy, refilled since, holds at least as many as the store does: a caller without a token in
the copy is refused without a question. While the store is away, the copy is the service's count.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from core.access.rate_limits import Buckets, exceeded
from core.clock import Clock
from core.counters import Counters
from core.models import Budget, Caller

log = logging.getLogger(__name__)

# The longest that a request waits for the store: for the call that is under way, and its own, which
# has MIN_CALL_SECONDS in any case. Both together are below a tenth of a second.
MAX_WAIT_SECONDS: Final = 0.07
MIN_CALL_SECONDS: Final = 0.02
MAX_KEYS_A_CALL: Final = 128  # some 5 ms, in which the store serves nobody else
RETRY_SECONDS: Final = 0.5
# An answer that came while the loop was busy is in a socket: it is read in the next turns.
_TURNS_OF_GRACE: Final = 3


class StoreAwayError(Exception):
    """The store did not do as it was asked; the message says why, without a password."""


class StoreRefusedError(StoreAwayError):
    """The store answers, but not as one that can be used with these settings."""


class Charge(NamedTuple):
    """Requests of one key: its bucket, its organization's, and how many tokens are wanted."""

    key_id: UUID
    key_rate: int  # tokens a second
    organization_id: UUID
    organization_rate: int
    wanted: int


class Charged(NamedTuple):
    """The tokens that a charge took from each of both buckets, and those that they hold now."""

    granted: int
    key_tokens: float
    organization_tokens: float


# Of nobody, and of nothing: it is known by it that a store can be read and written.
PROBE: Final = Charge(UUID(int=0), 1, UUID(int=0), 1, wanted=0)


class Store(Protocol):
    """Token buckets outside of this service."""

    async def open(self) -> None:
        """Connect, or connect anew; raises :class:`StoreAwayError` as :meth:`charge` does."""

    async def charge(self, charges: Sequence[Charge]) -> Sequence[Charged]:
        """Take as many of the wanted tokens as there are, of each pair of buckets in turn.

        Raises :class:`StoreAwayError`; it is not known then which were taken.
        """

    async def close(self) -> None:
        """Close the connection; raises nothing."""


class _Waiting:
    """The requests of one key that wait for the same answer, numbered in their order."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.wanted = 0
        self.answered = asyncio.Event()
        self.charged: Charged | None = None  # None still when answered: the store is away

    def charge(self) -> Charge:
        caller = self.caller
        return Charge(
            caller.key_id,
            caller.key_requests_per_second,
            caller.organization_id,
            caller.organization_requests_per_second,
            self.wanted,
        )

    def answer(self, charged: Charged | None) -> None:
        self.charged = charged
        self.answered.set()


class SharedRates:
    """Charges requests in a store. One call is under way at a time, with all that waited for it.

    When the store does not answer within ``MAX_WAIT_SECONDS``, or fails, it is away: requests are
    charged in ``buckets`` alone, until it answers in time again.
    That is tried at once, for it may have been a moment's delay, and then every ``RETRY_SECONDS``.
    """

    def __init__(self, store: Store, buckets: Buckets, clock: Clock, counters: Counters) -> None:
        self._store = store
        self._buckets = buckets
        self._clock = clock
        self._counters = counters
        self._away = True
        self._connected_at = float("-inf")  # the loop's time
        self._call: asyncio.Future[Sequence[Charged]] | None = None
        self._waiting: dict[UUID, _Waiting] = {}  # by their keys
        self._begun_at = 0.0  # the loop's time at which the first of them began to wait
        self._wanted = asyncio.Event()

    async def open(self) -> None:
        """Connect to the store; if that fails, it is away."""
        try:
            await self._connect()
        except StoreAwayError as error:
            self._lose(error)

    async def charge(self, caller: Caller, own: Budget) -> Budget:
        """Take a token from the key and one from the organization; returns the key's budget.

        ``own`` is the budget by the service's own buckets, in which the request has been charged;
        it is the answer while the store is away. Raises ``rate_limited`` as
        :meth:`core.access.rate_limits.RateLimiter.charge`.
        """
        if self._away:
            return own
        waiting = self._waiting.get(caller.key_id)
        if waiting is None:
            if len(self._waiting) >= MAX_KEYS_A_CALL:
                return own
            if not self._waiting:
                self._begun_at = asyncio.get_running_loop().time()
                self._wanted.set()
            waiting = self._waiting[caller.key_id] = _Waiting(caller)
        number = waiting.wanted
        waiting.wanted += 1
        await waiting.answered.wait()
        charged = waiting.charged
        if charged is None:
            return own
        if number >= charged.granted:
            raise exceeded(caller, charged.key_tokens, charged.organization_tokens)
        left = int(charged.key_tokens) + charged.granted - 1 - number
        return Budget(limit=caller.key_requests_per_second, remaining=left)

    async def run(self) -> None:
        """Ask the store for all who wait, until cancelled; then nobody waits any more."""
        try:
            while True:
                if self._away:
                    await self._come_back()
                await self._wanted.wait()
                try:
                    await self._ask_for_all()
                except StoreAwayError as error:
                    self._lose(error)
        finally:
            self._lose(None)
            await self._close()

    async def _ask_for_all(self) -> None:
        self._wanted.clear()
        waiting, self._waiting = self._waiting, {}
        charges = [one.charge() for one in waiting.values()]
        asked_at = self._clock.monotonic()
        answers: Sequence[Charged | None] = [None] * len(charges)
        try:
            answers = charged = await self._ask(charges, self._begun_at + MAX_WAIT_SECONDS)
            self._copy(charges, charged, asked_at)
        finally:
            for one, answer in zip(waiting.values(), answers, strict=True):
                one.answer(answer)

    async def _ask(self, charges: Sequence[Charge], deadline: float) -> Sequence[Charged]:
        """The store's answer; raises :class:`StoreAwayError` if there is none by the deadline."""
        self._call = call = asyncio.ensure_future(self._store.charge(charges))
        try:
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait([call], timeout=max(left, MIN_CALL_SECONDS))
            for _ in range(_TURNS_OF_GRACE):
                if not call.done():
                    await asyncio.sleep(0)
            if not call.done():
                raise StoreAwayError(f"no answer within {MAX_WAIT_SECONDS * 1_000:.0f} ms")
            return call.result()
        finally:
            call.cancel()

    def _copy(self, charges: Sequence[Charge], answers: Sequence[Charged], asked_at: float) -> None:
        # As of the moment of the question, so that the copy never holds less than the store.
        with self._buckets.exclusive():
            for charge, charged in zip(charges, answers, strict=True):
                self._buckets.fill(charge.key_id, charge.key_rate, asked_at)
                self._buckets.put(charge.key_id, charged.key_tokens)
                self._buckets.fill(charge.organization_id, charge.organization_rate, asked_at)
                self._buckets.put(charge.organization_id, charged.organization_tokens)

    def _lose(self, error: StoreAwayError | None) -> None:
        """Answer all who wait by the service's own count; None: because it stops."""
        self._away = True
        waiting, self._waiting = self._waiting, {}
        self._wanted.clear()
        for one in waiting.values():
            one.answer(None)
        if error is not None:
            self._counters.lose_rate_store()
            log.warning("the store of rates is away, this service counts alone: %s", error)

    async def _come_back(self) -> None:
        """Return once the store answers in time again."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._connected_at < RETRY_SECONDS:
            await asyncio.sleep(RETRY_SECONDS)
        while self._away:
            with contextlib.suppress(StoreAwayError):
                await self._connect()
                self._counters.regain_rate_store()
                log.info("the store of rates answers, all services count together again")
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _connect(self) -> None:
        await self._close()
        await self._store.open()
        loop = asyncio.get_running_loop()
        await self._ask([PROBE], loop.time() + MAX_WAIT_SECONDS)
        self._connected_at = loop.time()
        self._away = False

    async def _close(self) -> None:
        if self._call is not None:  # cancelled, if it was not answered
            await asyncio.gather(self._call, return_exceptions=True)
        await self._store.close()
