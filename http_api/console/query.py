"""The parameters of a page's address, as people and forms write them."""

from __future__ import annotations

from uuid import UUID

from fastapi import Request

from core import ids
from core.admin.errors import InvalidValueError


def given(request: Request, name: str) -> str:
    """Return a parameter without blanks at its ends; empty if it is missing.

    InvalidValueError if no text of the database can equal it.
    """
    text = request.query_params.get(name, "").strip()
    if "\0" in text:
        raise InvalidValueError(f"{name}: has a character that no stored text has")
    return text


def given_id(request: Request, name: str, prefix: str) -> UUID | None:
    """Return the id in a parameter; None if it is missing."""
    text = given(request, name)
    if not text:
        return None
    found = ids.parse(prefix, text)
    if found is None:
        raise InvalidValueError(f"{name}: {text!r} is no id")
    return found
