"""The form of the management API's bodies: pydantic models in camelCase, errors and pages."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, WithJsonSchema
from pydantic.alias_generators import to_camel

T = TypeVar("T")

Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
# A document of a client, as it was sent.
AnyObject = Annotated[dict[str, Any], WithJsonSchema({"type": "object"})]


class Model(BaseModel):
    """A JSON object with members in camelCase; unknown members of a request are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class ErrorBody(Model):
    """The reason for a refusal. Decide by `code`; `message` is for people."""

    code: str
    message: str
    request_id: str
    docs_url: str


class Error(Model):
    """The envelope of every error."""

    error: ErrorBody


class Page(Model, Generic[T]):
    """A page of a list. The cursor leads to the next one; null: it was the last."""

    items: list[T]
    next_cursor: str | None
