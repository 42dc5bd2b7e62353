"""Views of what comes in: answers that stay open, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Final
from uuid import UUID

from fastapi import Response
from starlette.types import Receive, Scope, Send

from core.admin.errors import AdministrationError
from core.admin.operators import TokenRefusedError
from core.error_codes import OperatorCode
from core.postgres.errors import DatabaseUnusableError
from http_api.documents import CONSOLE_HEADERS
from http_api.manage.errors import ManageError
from http_api.middleware import RequestContext

MAX_VIEWS: Final = 32  # of a process
MAX_VIEWS_OF_ONE: Final = 8  # operator, so that one leaves room for others
POLL_SECONDS: Final = 1.0
HEARTBEAT_SECONDS: Final = 15.0  # of silence; proxies cut what is silent for longer
MAX_VIEW_SECONDS: Final = 3_600.0  # a browser that still looks opens another
BUSY_RETRY_SECONDS: Final = 5

_LINE_END: Final = re.compile(r"\r\n|\r|\n")

# Returns the messages since the last call.
Poll = Callable[[], Awaitable[list[bytes]]]


class Views:
    """The views of a process: a bounded number, until :meth:`end`."""

    def __init__(self) -> None:
        self._open: Counter[UUID] = Counter()  # by operator
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """End all views, and refuse new ones: the service stops."""
        if not self._ended.done():
            self._ended.set_result(None)

    @contextlib.contextmanager
    def opened(self, operator_id: UUID) -> Iterator[None]:
        """A place for a view of an operator; :class:`ManageError` if there is none."""
        if self._open[operator_id] >= MAX_VIEWS_OF_ONE:
            raise _busy(f"{MAX_VIEWS_OF_ONE} of your pages")
        if self._ended.done() or self._open.total() >= MAX_VIEWS:
            raise _busy(f"{MAX_VIEWS} pages")
        self._open[operator_id] += 1
        try:
            yield
        finally:
            self._open[operator_id] -= 1
            self._open += Counter()  # keeps those above 0

    async def pause(self, gone: asyncio.Future[None]) -> bool:
        """Wait until it is time to look again; returns False if the view ends instead."""
        ends = {gone, self._ended}
        await asyncio.wait(ends, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return not any(end.done() for end in ends)


def _busy(how_many: str) -> ManageError:
    message = f"{how_many} show new events already, which is the most."
    return ManageError(OperatorCode.UNAVAILABLE, message, BUSY_RETRY_SECONDS)


class View(Response):
    """An answer that goes on with the messages of ``poll``.

    It ends with its client, with the views, and when the poll is refused, which the last message
    tells. While the database is away, a message says so once and the view goes on.
    """

    def __init__(self, views: Views, operator_id: UUID, poll: Poll) -> None:
        super().__init__(None, 200)
        self._views = views
        self._operator_id = operator_id
        self._poll = poll

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._views.opened(self._operator_id):
            RequestContext.of(scope).ends_with_client = True
            headers = {**CONSOLE_HEADERS, "content-type": "text/event-stream"}
            # Proxies that gather answers are told not to.
            headers["x-accel-buffering"] = "no"
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            gone = asyncio.ensure_future(_disconnected(receive))
            try:
                await self._run(gone, send)
            finally:
                gone.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run(self, gone: asyncio.Future[None], send: Send) -> None:
        async def tell(body: bytes) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": True})

        loop = asyncio.get_running_loop()
        began_at = told_at = loop.time()
        is_away = False
        while loop.time() - began_at < MAX_VIEW_SECONDS:
            try:
                messages = await self._poll()
                if is_away:
                    messages.insert(0, message("back", ""))
                is_away = False
            except DatabaseUnusableError:
                messages = [] if is_away else [message("away", "")]
                is_away = True
            except (TokenRefusedError, AdministrationError) as error:
                await tell(message("ended", str(error)))
                return
            if not messages and loop.time() - told_at >= HEARTBEAT_SECONDS:
                messages = [b":\n\n"]
            if messages:
                await tell(b"".join(messages))
                told_at = loop.time()
            if not await self._views.pause(gone):
                return


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def message(name: str, text: str) -> bytes:
    """Return a message of that name, whose data is the text (HTML standard, 9.2.5)."""
    data = "".join(f"data: {line}\n" for line in _LINE_END.split(text))
    return f"event: {name}\n{data}\n".encode()
