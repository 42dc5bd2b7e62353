"""The bytes of one HTTP connection as requests, with bounds on the size of what is parsed.

The class builds on internals of uvicorn's connections, as http_api/protocol.py does.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from http_api.cycle import Cycle

# A head is a request line with its headers (RFC 9112, section 2.1). Each header, however short,
# takes some 150 bytes of memory.
MAX_HEAD_BYTES: Final = 32_768
MAX_HEADERS: Final = 128
# Requests are parsed in pieces that end with a head if they can. The shorter they are, the fewer
# requests are parsed ahead; the longer, the faster is a body of empty lines. Of a body whose length
# is known the rest is one piece.
MIN_PIECE_BYTES: Final = 1_024
MAX_PIECE_BYTES: Final = 4_096
MAX_CACHED_TARGETS: Final = 64  # of at most a head's bytes each
_HEAD_END: Final = b"\r\n\r\n"
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


@lru_cache(MAX_CACHED_TARGETS)
def _split(target: bytes) -> tuple[bytes, bytes]:
    """Return the path and the query of a request's target.

    The path keeps its escapes: a proxy that keeps /metrics to the operator's network must not be
    passed by /%6Detrics. A whole URL can lack one (RFC 9112, section 3.2.2).
    """
    url = httptools.parse_url(target)
    return url.path or b"/", url.query or b""


class RequestParser(HttpToolsProtocol):
    """Parses requests until one has to wait for an earlier answer, and keeps what is behind it.

    A head that is too large, or has not one Host, is answered with 400. The bound on a head holds
    for trailers, which are ignored, and for empty lines between requests, too.

    An offer to upgrade the connection (RFC 9110, section 7.8) is declined: the request is answered
    as if it were not there.
    """

    _unparsed_bytes = 0  # received since the last whole head, piece of a body or whole message
    _ahead = b""  # received behind a request that waits, and not parsed yet
    _body_left = 0  # of the declared length
    _problem: str | None = None  # with a request that the parser takes for one
    _in_head = False
    _in_body = False
    _declining = False  # the parser reads a head of _decline_upgrade, not of the client

    def _parse(self, data: bytes) -> None:
        """Parse until a request has to wait, and keep what is behind it."""
        position = 0
        try:
            while position < len(data) and not (self.pipeline or self.transport.is_closing()):
                end = len(data)
                if self._body_left < end - position:  # else it is all of one body
                    end = min(end, position + MAX_PIECE_BYTES)
                    found = data.find(_HEAD_END, position + MIN_PIECE_BYTES, end)
                    end = end if found < 0 else found + len(_HEAD_END)
                self._unparsed_bytes += end - position
                self._feed(memoryview(data)[position:end])
                position = end
                if self._unparsed_bytes > MAX_HEAD_BYTES:
                    self._problem = f"The headers are over {MAX_HEAD_BYTES} bytes."
                    raise httptools.HttpParserError
        except httptools.HttpParserError:
            self._ahead = b""
            self.send_400_response(self._problem or "This is not an HTTP/1.1 request.")
        else:
            self._ahead = data[position:]

    def _feed(self, data: memoryview) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                self._decline_upgrade()

    def _decline_upgrade(self) -> None:
        # The parser takes all that follows an offer for the other protocol. A new parser replaces
        # it; a head without the offer, which only delimits the body, makes it go on with the body.
        framing = [
            b"%b: %b\r\n" % header
            for header in self.headers
            if header[0] in (b"content-length", b"transfer-encoding")
        ]
        self.parser = httptools.HttpRequestParser(self)
        self._declining = True
        try:
            self.parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))
        finally:
            self._declining = False

    # --- called by the parser ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        if not self._declining:
            self._unset_keepalive_if_required()
            self.url = b""
            self.headers = []
            self.expect_100_continue = False
            self._in_head = True
            self._body_left = 0

    def on_url(self, url: bytes) -> None:
        if not self._declining:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._declining or self._in_body:  # in a body it is a trailer
            return
        if len(self.headers) >= MAX_HEADERS:
            self._problem = f"There are over {MAX_HEADERS} headers."
            raise httptools.HttpParserError
        name = name.lower()
        if name == b"content-length":
            self._body_left = int(value or 0)  # the parser has refused what is no number
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value.strip(b" \t")))  # the parser leaves trailing blanks

    def on_headers_complete(self) -> None:
        if self._declining:
            return
        version = self.parser.get_http_version()
        if version == "1.1" and [name for name, _ in self.headers].count(b"host") != 1:
            # A proxy may have routed by another one than we would (RFC 9112, section 3.2).
            self._problem = "Host: must be sent once"
            raise httptools.HttpParserError
        path, query = _split(self.url)
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "server": self.server,
            "client": self.client,
        }
        is_first = self._is_answered()
        self.cycle = self._new_cycle(scope, keeps_alive=version != "1.0")
        self._unparsed_bytes = 0
        self._in_head, self._in_body = False, True
        if is_first:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _is_answered(self) -> bool:
        """Whether no request waits for its answer."""
        return getattr(self.cycle, "response_complete", True)  # None before the first request

    def _new_cycle(self, scope: Any, *, keeps_alive: bool) -> Cycle:
        return Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keeps_alive and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        self._body_left -= len(body)
        if not self.cycle.response_complete:
            self.cycle.body += body
            if len(self.cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():  # the body is yet to come, from _decline_upgrade's parser
            return
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()
        self._unparsed_bytes = 0
        self._in_body = False
