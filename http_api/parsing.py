"""The bytes of one HTTP connection as requests, with bounds on the size of what is parsed.

The class builds on internals of uvicorn's connections, as http_api/protocol.py does.
"""

from __future__ import annotations

from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# A head is a request line with its headers (RFC 9112, section 2.1). Each header, however short,
# takes some 150 bytes of memory.
MAX_HEAD_BYTES: Final = 32_768
MAX_HEADERS: Final = 128
# Requests are parsed in pieces that end with a head, and are so long at least. The shorter they
# are, the fewer requests are parsed ahead; the longer, the faster is a body of empty lines.
MIN_PIECE_BYTES: Final = 1_024
_HEAD_END: Final = b"\r\n\r\n"


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
                    found = data.find(_HEAD_END, position + MIN_PIECE_BYTES)
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
            super().on_message_begin()
            self._unset_keepalive_if_required()
            self._in_head = True
            self._body_left = 0

    def on_url(self, url: bytes) -> None:
        if not self._declining:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._declining or self._in_body:  # in a body it is a trailer
            return
        if len(self.headers) >= MAX_HEADERS:
            self._problem = f"There are over {MAX_HEADERS} headers."
            raise httptools.HttpParserError
        super().on_header(name, value.strip(b" \t"))  # the parser leaves trailing blanks

    def on_headers_complete(self) -> None:
        if self._declining:
            return
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                self._body_left = int(value or 0)  # the parser has refused what is no number
        if hosts != 1 and self.parser.get_http_version() == "1.1":
            # A proxy may have routed by another one than we would (RFC 9112, section 3.2).
            self._problem = "Host: must be sent once"
            raise httptools.HttpParserError
        if self.url[:1] != b"/" and httptools.parse_url(self.url).path is None:
            self.url = b"/"  # a whole URL with nothing behind the host (RFC 9112, section 3.2.2)
        super().on_headers_complete()
        self._unparsed_bytes = 0
        self._in_head, self._in_body = False, True

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        self._body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():  # the body is yet to come, from _decline_upgrade's parser
            return
        super().on_message_complete()
        self._unparsed_bytes = 0
        self._in_body = False
