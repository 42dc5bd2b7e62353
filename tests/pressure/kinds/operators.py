"""Floods of the pages and the API of operators, by strangers."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from http_api.console.security import COOKIE
from http_api.paths import CONSOLE_PATH, MANAGE_PATH, SIGN_IN_PATH
from tests.pressure.pressure import Tally, Target, pressure
from tests.pressure.wire import Caller, get, head, keep_open

STRANGERS: Final = 1_500


async def _flood(target: Target, tally: Tally, request: Callable[[], bytes]) -> None:
    await keep_open(target.http, STRANGERS, lambda _: Caller(tally, request), tally)


@pressure()
async def console_sign_in(target: Target, tally: Tally) -> None:
    """Forms of the console's sign-in with tokens that nobody has, over 1,500 connections."""

    def request() -> bytes:
        form = f"token=wp_ops_{secrets.token_hex(16)}".encode()
        length = str(len(form))
        return head(None, "POST", SIGN_IN_PATH, Content_Length=length) + form

    await _flood(target, tally, request)


@pressure()
async def console_sessions(target: Target, tally: Tally) -> None:
    """Pages of the console with sessions that nobody has, over 1,500 connections."""

    def request() -> bytes:
        cookie = f"{COOKIE}={secrets.token_urlsafe(32)}"
        return head(None, "GET", f"{CONSOLE_PATH}/organizations", Content_Type=None, Cookie=cookie)

    await _flood(target, tally, request)


@pressure()
async def manage_tokens(target: Target, tally: Tally) -> None:
    """Requests of the management API with tokens that nobody has, over 1,500 connections."""

    def request() -> bytes:
        return get(f"{MANAGE_PATH}/organizations", f"wp_ops_{secrets.token_hex(16)}")

    await _flood(target, tally, request)
