"""The parts of the I/O that the two clients share: options of httpx, its answers and failures."""

from __future__ import annotations

import os
import ssl
import time
from typing import Any, Final

import httpx

from wepeople_ingest_client.codes import Retry
from wepeople_ingest_client.rest.errors import NoAnswerError
from wepeople_ingest_client.rest.steps import Answer

# The service answers within 12.5 s.
DEFAULT_TIMEOUT_SECONDS: Final = 15.0
MAX_TIMEOUT_SECONDS: Final = 60.0
# An answer may name every event of a 1 MiB request and the reason to reject it, escaped.
MAX_ANSWER_BYTES: Final = 8 * 1_048_576

_OUR_FAULTS: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


def http_options(base_url: str, key: str, timeout: float) -> dict[str, Any]:
    """Return the options of an httpx client. Raises ValueError if one cannot work."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("base_url: must be http(s)://HOST")
    if url.userinfo or url.query or url.fragment:
        raise ValueError("base_url: must have no credentials, query or fragment")
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        raise ValueError("key: must be visible ASCII characters without white space")
    if not 0 < timeout <= MAX_TIMEOUT_SECONDS:
        raise ValueError(f"timeout: must be over 0 and at most {MAX_TIMEOUT_SECONDS:g} seconds")
    headers = {
        "Authorization": f"Bearer {key}",
        "Accept": "application/json",
        "User-Agent": "wepeople-ingest-client",
    }
    return {"base_url": url, "headers": headers, "timeout": timeout, "follow_redirects": False}


class OneProcess:
    """Keeps connections to the process that has used them first.

    Two processes on one connection would read each other's answers.
    """

    def __init__(self) -> None:
        self._id: int | None = None

    def check(self) -> None:
        """Raise RuntimeError in a process that was forked since the first use."""
        if self._id is None:
            self._id = os.getpid()
        elif self._id != os.getpid():
            raise RuntimeError("a client that was used before a fork belongs to the older process")


class AnswerReader:
    """Takes the pieces of a response's body, up to ``MAX_ANSWER_BYTES`` and for ``timeout`` s."""

    def __init__(self, response: httpx.Response, timeout: float) -> None:
        self._response = response
        self._ends = time.monotonic() + timeout
        self._content = bytearray()

    def take(self, piece: bytes) -> None:
        """Take a piece. Raises the error of httpx for one too many."""
        self._content += piece
        if len(self._content) > MAX_ANSWER_BYTES:
            raise httpx.DecodingError(f"the answer is over {MAX_ANSWER_BYTES:,} bytes")
        if time.monotonic() > self._ends:
            raise httpx.ReadTimeout("the answer does not end")

    def answer(self) -> Answer:
        """Return the answer, once every piece is taken."""
        response = self._response
        return Answer(response.status_code, response.headers, bytes(self._content))


def no_answer(error: httpx.RequestError) -> NoAnswerError:
    """Return the failure of a request without an answer; a repeat does not cure each."""
    ours = isinstance(error, _OUR_FAULTS) or _is_untrusted(error)
    message = f"no answer: {type(error).__name__}: {error}"
    failure = NoAnswerError(message, Retry.NEVER if ours else Retry.LATER)
    failure.__cause__ = error
    return failure


def _is_untrusted(error: BaseException) -> bool:
    """Whether the server's certificate was not accepted."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
