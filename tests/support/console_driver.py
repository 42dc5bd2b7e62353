"""A browser without a screen: it signs in to the console, opens pages and sends their forms."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Final, Self

import httpx

from http_api.paths import CONSOLE_PATH, SIGN_IN_PATH

HTML: Final = {"Accept": "text/html"}
_TOKEN: Final = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


class ConsoleDriver:
    """A client of the console with the cookies of one browser; an asynchronous context manager."""

    def __init__(self, base_url: str) -> None:
        self.client = httpx.AsyncClient(base_url=base_url, headers=HTML, timeout=30)
        self._views: list[AsyncGenerator[tuple[str, str], None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for view in self._views:
            await view.aclose()
        await self.client.aclose()

    async def sign_in(self, token: str, **fields: str) -> httpx.Response:
        """Send the form of the sign-in page."""
        return await self.client.post(SIGN_IN_PATH, data={"token": token, **fields})

    async def get(self, path: str, **parameters: str) -> httpx.Response:
        """Open a page of the console; the path is that behind ``/console``."""
        return await self.client.get(f"{CONSOLE_PATH}{path}", params=parameters or None)

    async def form_token(self) -> str:
        """The token of this session's forms."""
        found = _TOKEN.search((await self.get("/organizations")).text)
        assert found is not None
        return found[1]

    async def post(self, path: str, **fields: str) -> httpx.Response:
        """Send a form as a page of the session does."""
        data = {"csrf": await self.form_token(), **fields}
        return await self.client.post(f"{CONSOLE_PATH}{path}", data=data)

    def messages(self, path: str) -> AsyncGenerator[tuple[str, str], None]:
        """The messages of a view, as name and data, from its begin to its end.

        A view that is still open is closed with the browser.
        """
        # The garbage collector would close a view and its stream at once, and neither could wait
        # for the other: the error is told in whichever test runs then.
        self._views.append(self._messages(path))
        return self._views[-1]

    async def _messages(self, path: str) -> AsyncGenerator[tuple[str, str], None]:
        async with self.client.stream("GET", f"{CONSOLE_PATH}{path}", timeout=None) as answer:
            assert answer.status_code == 200, answer.status_code
            assert answer.headers["content-type"] == "text/event-stream"
            name, data = "", []
            async for line in answer.aiter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif not line and name:
                    yield name, "\n".join(data)
                    name, data = "", []


async def next_message(
    messages: AsyncGenerator[tuple[str, str], None], name: str, seconds: float = 20
) -> str:
    """The data of the next message of that name."""
    async with asyncio.timeout(seconds):
        async for found, data in messages:
            if found == name:
                return data
    raise AssertionError(f"the view ended without {name}")
