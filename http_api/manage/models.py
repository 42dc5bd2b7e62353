"""The bodies of the management API, as pydantic models in camelCase."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A JSON object with members in camelCase; unknown members of a request are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class OperatorOut(Model):
    """The operator whose token the request has."""

    id: str
    name: str
    scope: Literal["read", "write"]
    ends_in: str
    expires_at: datetime | None
