"""Foreign services that take events, each described by a file of TOML.

BENCHMARKS.md explains the members, and ``peers/`` beside this file has examples. A text may have
placeholders. ``${env:NAME}`` is a variable of the environment, ``${time}`` the time as RFC 3339,
``${time_ns}`` that in nanoseconds since the epoch, ``${items}`` the items of the batch, and
``${index}`` the position of an item, from 0. They are filled in once a round, before the load is
made; ``${id}`` alone is new each time.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from core.timestamps import format_us
from service.bench.load import CallLoad, HttpLoad
from service.bench.resources import Processes, listening
from service.bench.rows import Foreign, Measurement, Row
from service.bench.success import Success

MAX_BATCH_ITEMS: Final = 10_000
MAX_AT_ONCE: Final = 1_024
MAX_SECONDS: Final = 3_600.0
HTTP_PORTS: Final = {"http": 80, "https": 443}
_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}")


class PeerError(Exception):
    """A description cannot be used; the message says why."""


class _Http(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[str, Meta(pattern=r"^https?://[^\s/]+(/\S*)?$")]
    method: Annotated[str, Meta(pattern="^[A-Z]+$")] = "POST"
    headers: dict[str, str] = {}


class _Grpc(Struct, frozen=True, forbid_unknown_fields=True):
    server: Annotated[str, Meta(pattern=r"^\S+:\d{1,5}$")]
    method: Annotated[str, Meta(pattern=r"^[\w.]+/\w+$")]
    tls: bool = False
    metadata: dict[str, str] = {}
    descriptors: str | None = None


class _Description(Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    body: str
    item: str = ""
    separator: str = ", "
    batch: Annotated[int, Meta(ge=1, le=MAX_BATCH_ITEMS)] = 1
    concurrency: Annotated[int, Meta(ge=1, le=MAX_AT_ONCE)] = 8
    rate: Annotated[float, Meta(gt=0)] | None = None
    seconds: Annotated[float, Meta(gt=0, le=MAX_SECONDS)] | None = None
    database: Annotated[str, Meta(pattern=r"^\S+:\d{1,5}$")] | None = None
    http: _Http | None = None
    grpc: _Grpc | None = None
    success: Success = Success()


class Peer:
    """A foreign service, as a file describes it.

    Raises :class:`PeerError` if the file cannot be read, or describes none.
    """

    def __init__(self, file: Path, environment: Mapping[str, str]) -> None:
        self.name = file.stem
        self._environment = environment
        try:
            self._description = msgspec.toml.decode(file.read_bytes(), type=_Description)
            described = self._description.grpc
            self._descriptors = (
                None
                if described is None or described.descriptors is None
                else (file.parent / described.descriptors).read_bytes()
            )
        except OSError as error:
            raise PeerError(f"{file}: {error.strerror or error}") from None
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise PeerError(f"{file}: {error}") from None
        if (self._description.http is None) == (self._description.grpc is None):
            raise PeerError(f"{file}: must have one of the tables http and grpc")
        try:
            self.load()  # placeholders that nothing is known of are told of at once
        except PeerError as error:
            raise PeerError(f"{file}: {error}") from None

    def row(self, yardstick: str | None) -> Row:
        """Its row of the report."""
        about = self._description
        server = _processes(self._server())
        database = Processes([]) if about.database is None else _processes(about.database)
        return Row(
            self.name,
            about.title,
            Foreign(self.load, server, database),
            "requests" if about.batch == 1 else "events",
            yardstick,
            seconds=about.seconds,
        )

    def _server(self) -> str:
        """HOST:PORT."""
        about = self._description
        if about.http is None:
            assert about.grpc is not None
            return about.grpc.server
        parts = urlsplit(self._filled(about.http.url, {}))
        return f"{parts.hostname}:{parts.port or HTTP_PORTS[parts.scheme]}"

    def load(self) -> HttpLoad | CallLoad:
        """Its load, at this moment."""
        about = self._description
        at_us = time.time_ns() // 1_000
        items = about.separator.join(
            self._filled(about.item, {**_moment(at_us + index), "index": str(index)})
            for index in range(about.batch)
        )
        body = self._filled(about.body, {**_moment(at_us), "items": items})
        if about.http is not None:
            url = self._filled(about.http.url, {})
            headers = self._filled_all(about.http.headers)
            return HttpLoad(
                url,
                headers,
                body,
                about.batch,
                about.concurrency,
                about.rate,
                about.http.method,
                about.success,
            )
        assert about.grpc is not None
        return CallLoad(
            about.grpc.server,
            about.grpc.tls,
            about.grpc.method,
            self._filled_all(about.grpc.metadata),
            body,
            self._descriptors,
            about.batch,
            about.concurrency,
            about.rate,
            about.success,
        )

    def _filled_all(self, texts: Mapping[str, str]) -> dict[str, str]:
        return {name: self._filled(text, {}) for name, text in texts.items()}

    def _filled(self, text: str, values: Mapping[str, str]) -> str:
        """The text with its placeholders filled in, but for the ids."""

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name == "id":
                return match[0]
            kind, _, variable = name.partition(":")
            if kind == "env" and variable in self._environment:
                return self._environment[variable]
            if name in values:
                return values[name]
            reason = "is not set" if kind == "env" else "is not known here"
            raise PeerError(f"{match[0]} {reason}")

        return _PLACEHOLDER.sub(value, text)


def _moment(at_us: int) -> dict[str, str]:
    return {"time": format_us(at_us), "time_ns": str(at_us * 1_000)}


def _processes(address: str) -> Processes:
    host, _, port = address.rpartition(":")
    return listening(host, int(port))


def read_peers(files: list[Path]) -> list[Peer]:
    """The peers that the files describe.

    Raises :class:`PeerError`.
    """
    return [Peer(file, os.environ) for file in files]


def measurements(peers: list[Peer]) -> list[Measurement]:
    """A measurement of each. The first is the yardstick of the others."""
    return [Measurement((peer.row(None if peer is peers[0] else peers[0].name),)) for peer in peers]
