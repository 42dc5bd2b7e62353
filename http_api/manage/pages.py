"""Lists by pages: their parameters, and the cursor that leads to the next one."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from fastapi import Response
from pydantic import Field

from core.admin.as_json import Json
from core.admin.pages import Page
from core.error_codes import OperatorCode
from http_api.manage.errors import ManageError
from http_api.manage.models import Model

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_CURSOR_CHARACTERS: Final = 2_000

K = TypeVar("K")
T = TypeVar("T")


class Paging(Model):
    """The parameters of every list."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="How many of them at most.")
    cursor: str | None = Field(
        None, max_length=MAX_CURSOR_CHARACTERS, description="The `nextCursor` of the page before."
    )

    def after(self, kind: type[K]) -> K | None:
        """Return the key behind which the page begins; ManageError for a foreign cursor."""
        if self.cursor is None:
            return None
        try:
            text = base64.b64decode(self.cursor, b"-_", validate=True)
            if b"\\u0000" in text:  # which no stored text has
                raise ValueError("a character that no key has")
            return msgspec.json.decode(text, type=kind)
        except (binascii.Error, msgspec.DecodeError, ValueError) as error:
            raise ManageError(
                OperatorCode.INVALID_VALUE, "cursor: it is not one that this list has given."
            ) from error


def page_json(
    page: Page[T, Any], to_json: Callable[[T], Json], more: Mapping[str, object] | None = None
) -> Json:
    """Return a page as its model has it."""
    cursor = None
    if page.after is not None:
        cursor = base64.b64encode(msgspec.json.encode(page.after), b"-_").decode()
    return {"items": [to_json(one) for one in page.items], "nextCursor": cursor, **(more or {})}


def exact(content: Json) -> Response:
    """Return an answer with the documents of clients in it, to the digit as they were sent."""
    return Response(msgspec.json.encode(content), media_type="application/json")
