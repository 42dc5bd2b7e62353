"""The store of rates: token buckets in a Valkey or Redis server. Only this file speaks to it.

The buckets expire once they are full again, so the store holds those of the last seconds alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from core.access.rate_limits import BURST_SECONDS
from core.access.shared_rates import PROBE, Charge, Charged, StoreAwayError, StoreRefusedError

CONNECT_SECONDS: Final = 2.0
DEFAULT_PORT: Final = 6379
# A bucket is full after BURST_SECONDS, and one that is not there counts as full.
EXPIRY_SECONDS: Final = 2 * BURST_SECONDS
_KEY_BUCKET: Final = "wepeople:rate:key:"
_ORGANIZATION_BUCKET: Final = "wepeople:rate:organization:"

# KEYS: the bucket of a key and that of its organization, for each charge. ARGV: the burst in
# seconds, the expiry in milliseconds; then both rates and the wanted tokens, for each charge.
# The time is the store's, for the clocks of several services differ. As in
# core/access/rate_limits.py, a clock that was set back refills nothing and counts from then on.
_CHARGE: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local burst, expiry = tonumber(ARGV[1]), ARGV[2]

local function fill(bucket, rate)
  local held = redis.call('GET', bucket)
  if not held then return rate * burst end
  local tokens, updated = string.match(held, '(%S+) (%S+)')
  tokens, updated = tonumber(tokens), tonumber(updated)
  if now > updated then tokens = tokens + (now - updated) * rate end
  return math.min(rate * burst, tokens)
end

local function keep(bucket, tokens)
  redis.call('SET', bucket, string.format('%.17g %.17g', tokens, now), 'PX', expiry)
end

local answers = {}
for n = 1, #KEYS / 2 do
  local key, organization = KEYS[2 * n - 1], KEYS[2 * n]
  local key_tokens = fill(key, tonumber(ARGV[3 * n]))
  local organization_tokens = fill(organization, tonumber(ARGV[3 * n + 1]))
  local granted = math.floor(math.min(key_tokens, organization_tokens, tonumber(ARGV[3 * n + 2])))
  key_tokens, organization_tokens = key_tokens - granted, organization_tokens - granted
  keep(key, key_tokens)
  keep(organization, organization_tokens)
  answers[n] = string.format('%d %.17g %.17g', granted, key_tokens, organization_tokens)
end
return answers
"""
_CHARGE_DIGEST: Final = hashlib.sha1(_CHARGE.encode(), usedforsecurity=False).hexdigest()


class RateStore:
    """``shared_rates.Store`` on a server: one connection, and one script call for all charges.

    ``url``: ``valkey`` or ``redis``, with an ``s`` for TLS, ``://[USER:PASSWORD@]HOST[:PORT][/DB]``.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = _client(url)

    async def open(self) -> None:
        """As ``Store.open``; buckets have been read and written by the script then.

        Raises :class:`StoreRefusedError` for a wrong password, right or database, and for a server
        of another kind.
        """
        self._client = _client(self._url)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.charge([PROBE])
        except TimeoutError:
            raise StoreAwayError(f"no connection within {CONNECT_SECONDS:g} s") from None

    async def charge(self, charges: Sequence[Charge]) -> Sequence[Charged]:
        """As ``Store.charge``, at the store's time."""
        buckets: list[str] = []
        numbers: list[str | int] = [str(BURST_SECONDS), int(EXPIRY_SECONDS * 1_000)]
        for one in charges:
            buckets += (
                f"{_KEY_BUCKET}{one.key_id}",
                f"{_ORGANIZATION_BUCKET}{one.organization_id}",
            )
            numbers += (one.key_rate, one.organization_rate, one.wanted)
        given = (*buckets, *numbers)
        try:
            try:
                answers = await self._client.evalsha(_CHARGE_DIGEST, len(buckets), *given)
            except NoScriptError:  # a server that has just started, or another one
                answers = await self._client.eval(_CHARGE, len(buckets), *given)
            return [_charged(answer) for answer in answers]
        except (RedisError, OSError, ValueError) as error:
            raise _interpreted(error) from error

    async def close(self) -> None:
        """As ``Store.close``."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await self._client.aclose()


def _client(url: str) -> Redis:
    parts = urlsplit(url)
    return Redis(
        host=parts.hostname or "",
        port=parts.port or DEFAULT_PORT,
        db=int(parts.path.strip("/") or 0),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        ssl=parts.scheme in ("valkeys", "rediss"),
        single_connection_client=True,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=None,  # the caller's is shorter
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # spoken by every server; the connection begins with no more than AUTH, SELECT
        driver_info=None,
    )


def _charged(answer: bytes) -> Charged:
    granted, key_tokens, organization_tokens = answer.split()
    return Charged(int(granted), float(key_tokens), float(organization_tokens))


def _interpreted(error: Exception) -> StoreAwayError:
    reason = str(error) or type(error).__name__
    refusals = (AuthenticationError, NoPermissionError, InvalidResponse, ValueError)
    # Other subclasses of ResponseError, as of a server that is loading or full, pass.
    if isinstance(error, refusals) or type(error) is ResponseError:
        return StoreRefusedError(reason)
    return StoreAwayError(reason)
