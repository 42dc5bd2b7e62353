"""Pages and documents that are the same for everybody: cached, compressed, asked for with HEAD."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from typing import Final, NamedTuple

from fastapi import Request, Response

# A page loads nothing of other origins, tells no other site where a reader came from, and stands in
# no frame of it. Other documents load nothing.
_LOADING: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; "
)
_ISOLATED: Final = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
DOCUMENT_HEADERS: Final = {
    "content-security-policy": f"default-src 'none'; {_ISOLATED}",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
PAGE_HEADERS: Final = DOCUMENT_HEADERS | {"content-security-policy": _LOADING + _ISOLATED}
# The console's pages have forms, and nobody may keep them. With no-referrer, browsers would send
# `Origin: null` with forms.
CONSOLE_HEADERS: Final = PAGE_HEADERS | {
    "content-security-policy": PAGE_HEADERS["content-security-policy"].replace(
        "form-action 'none'", "form-action 'self'"
    ),
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
HTML: Final = "text/html; charset=utf-8"
CACHE_SECONDS: Final = 300  # how long a release before this one may still be shown
GZIP: Final = "gzip"
_ZERO: Final = re.compile(r"q=0(\.0*)?")


class Representation(NamedTuple):
    """The bytes of a document in one encoding, and the tag by which a cache knows them."""

    content: bytes
    etag: str

    @staticmethod
    def of(content: bytes) -> Representation:
        """Return the representation with its tag, a digest of the bytes."""
        return Representation(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


class Document:
    """A document that is rendered and compressed once, when it is first asked for."""

    is_public = True

    def __init__(self, render: Callable[[], bytes], media_type: str) -> None:
        self._render = render
        self._media_type = media_type
        self._making = asyncio.Lock()  # of many who ask first, one takes a thread

    @cached_property
    def plain(self) -> Representation:
        """The document as it was rendered."""
        return Representation.of(self._render())

    @cached_property
    def gzipped(self) -> Representation:
        """The document compressed, always to the same bytes."""
        return Representation.of(gzip.compress(self.plain.content, mtime=0))

    async def answer(self, request: Request) -> Response:
        """Return the representation that the client accepts, or 304 if it has it."""
        is_gzipped = accepts_gzip(",".join(request.headers.getlist("accept-encoding")))
        name = "gzipped" if is_gzipped else "plain"
        async with self._making:
            if name not in vars(self):  # to make it takes longer than a turn of the loop may
                await asyncio.to_thread(getattr, self, name)
        chosen: Representation = getattr(self, name)
        headers = {
            "etag": chosen.etag,
            "cache-control": f"public, max-age={CACHE_SECONDS}",
            "vary": "Accept-Encoding",
            **(PAGE_HEADERS if self._media_type == HTML else DOCUMENT_HEADERS),
        }
        known = ",".join(request.headers.getlist("if-none-match"))
        if _names(known, chosen.etag):
            return Response(None, HTTPStatus.NOT_MODIFIED, headers)
        if is_gzipped:
            headers["content-encoding"] = GZIP
        return Response(chosen.content, HTTPStatus.OK, headers, media_type=self._media_type)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client wants gzip, by the value of its Accept-Encoding (RFC 9110, 12.5.3)."""
    weights: dict[str, bool] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, weight = item.partition(";")
        weights[coding.strip()] = not _ZERO.fullmatch(weight.strip())
    return weights.get(GZIP, weights.get("x-gzip", weights.get("*", False)))


def prefers_html(accept: str) -> bool:
    """Whether a client would rather have a page than JSON, by its Accept (RFC 9110, 12.5.1).

    A browser names text/html. A client that takes anything gets JSON.
    """
    weights = {"text/html": 0.0, "application/json": 0.0}
    for item in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in item.split(";"))
        if media_type in weights:
            weights[media_type] = _weight(parameters)
    return weights["text/html"] > weights["application/json"]


def _weight(parameters: list[str]) -> float:
    given = [one.removeprefix("q=") for one in parameters if one.startswith("q=")]
    try:
        return float(given[0]) if given else 1.0
    except ValueError:
        return 0.0


def _names(if_none_match: str, etag: str) -> bool:
    """Whether one of the tags is this one, by the weak comparison (RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
