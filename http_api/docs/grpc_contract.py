"""The gRPC contract as the reference shows it; grpc_api/contract_document.py makes the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import msgspec


class Method(msgspec.Struct, frozen=True):
    """A method and its messages, by name."""

    name: str
    comment: str
    request: str
    response: str
    is_stream: bool

    @property
    def signature(self) -> str:
        """As it stands in the .proto."""
        stream = "stream " if self.is_stream else ""
        return f"rpc {self.name}({stream}{self.request}) returns ({stream}{self.response})"


class Field(msgspec.Struct, frozen=True):
    """A field of a message."""

    name: str
    type: str
    comment: str

    @property
    def message(self) -> str:
        """The name in its type, without what stands before it."""
        return self.type.rpartition(" ")[2]


class Message(msgspec.Struct, frozen=True):
    """A message of the contract."""

    name: str
    comment: str
    fields: Sequence[Field]


class Contract(msgspec.Struct, frozen=True):
    """The service, and the statuses of each code; ``service`` is its full name."""

    service: str
    methods: Sequence[Method]
    messages: Sequence[Message]
    statuses: Mapping[str, Sequence[str]]


@cache
def contract() -> Contract:
    """Return the contract of this release."""
    content = (files("http_api.docs") / "generated" / "grpc.json").read_bytes()
    return msgspec.json.decode(content, type=Contract)
