"""One request and its answer: uvicorn's, with a whole answer in one message.

tests/http_api/test_uvicorn_internals.py names the internals of uvicorn that are relied on here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

# A message beside those of ASGI: an answer whose headers are known to be well-formed, with its
# status, headers and body.
WHOLE_ANSWER: Final = "wepeople.answer"
CLOSE: Final = (b"connection", b"close")


def render(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return the bytes of a whole answer."""
    fields = b"\r\n".join(map(b": ".join, headers))
    return b"".join([STATUS_LINE[status], fields, b"\r\n\r\n", body])


class Cycle(RequestResponseCycle):
    """A request and its answer, which may be sent as one message.

    Two messages of ASGI are two writes to the socket, and a look by regular expression at each
    header: 8 % of the CPU of a request beside the system call (``bench --protocol http --batch 1
    --concurrency 64``).
    """

    async def receive(self) -> Any:
        """Return the next event of ASGI; a body that came whole is not waited for."""
        is_here = self.message_event.is_set() and not self.more_body
        if not is_here or self.disconnected or self.response_complete:
            return await super().receive()
        self.message_event.clear()
        body, self.body = self.body, bytearray()
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    async def send(self, message: Any) -> None:
        """Send a message of ASGI, or a :data:`WHOLE_ANSWER`."""
        if message["type"] != WHOLE_ANSWER:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        headers = self.default_headers + message["headers"]
        if CLOSE in self.default_headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append(CLOSE)
        self.response_started = self.response_complete = True
        self.transport.write(render(message["status"], headers, message["body"]))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
