"""Bodies of at most 1 MiB that are dear to read; gzip makes most of them a few KB on the wire."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from grpc_api.pb import ingest_pb2 as pb
from tests.pressure.http2 import Calls, call_headers, message
from tests.pressure.pressure import Tally, Target, pressure
from tests.pressure.wire import EVENTS, Caller, Connection, keep_open, post

MAX_BYTES: Final = 1_048_576
CALLERS: Final = 8


@dataclass(frozen=True)
class Body:
    """A request body for HTTP, as it is before it is compressed."""

    name: str
    data: bytes
    with_key: bool = False  # an Idempotency-Key, so that it is digested

    def request(self, key: str) -> bytes:
        """The whole request, compressed."""
        headers: dict[str, Any] = {"Content_Encoding": "gzip"}
        if self.with_key:
            headers["Idempotency_Key"] = next(_names)
        return post(key, gzip.compress(self.data), EVENTS, **headers)


_names = map("body-{}".format, itertools.count())
_EVENT: Final = b'{"eventType":"ticket.resolved","category":"code","actor":{"externalId":"c1"}%b}'


def _batch(*members: bytes, count: int = 1) -> bytes:
    event = _EVENT % b"".join(b"," + member for member in members)
    return b'{"events":[' + b",".join([event] * count) + b"]}"


def _metadata(text: str) -> bytes:
    return b'"metadata":{"a":' + text.encode() + b"}"


def _list(item: str, count: int) -> str:
    return "[" + ",".join([item] * count) + "]"


def dear_bodies() -> Iterator[Body]:
    """Those that are known to have stopped the process for a second or more."""
    deep = b"[" * 500_000 + b"]" * 500_000
    actor = b'{"events":[{"eventType":"ticket.resolved","category":"code","actor":%b}]}' % deep
    yield Body("brackets inside actor", actor)
    beside_nan = b'{"events":[{"actor":%b},{"duration":NaN}]}' % deep
    yield Body("brackets inside actor beside NaN", beside_nan)
    past_recursion = b'{"a":' * 1_100 + b"1" + b"}" * 1_100
    events = b",".join([b'{"actor":%b}' % past_recursion] * 155)
    yield Body("braces inside each actor", b'{"events":[%b]}' % events)
    yield Body("brackets that do not end", b'{"events":[{"actor":' + b"[" * 1_000_000)
    same = b"{" + b'"":1,' * 209_000 + b'"n":NaN}'
    yield Body("members of one name beside NaN", b'{"events":[%b]}' % same)
    floats = _metadata(_list("1e308", 330))
    yield Body("330 times 1e308 in each metadata", _batch(floats, count=500), with_key=True)
    nul = b'"metadata":{"a":' + _list("[]", 640).encode() + b',"b":"\\u0000"}'
    yield Body("640 empty lists and an escaped U+0000", _batch(nul, count=500))
    digits = _metadata(_list("7" * 308, 310))
    yield Body("310 integers of 308 digits", _batch(digits, count=10))
    yield Body("one integer of a million digits", _batch(b'"duration":' + b"7" * 1_000_000))
    yield Body("escapes", _batch(_metadata('"' + r"\u0041" * 160_000 + '"')))
    yield Body("nothing but commas", b'{"events":[' + b"," * 1_000_000 + b"]}")
    yield Body("half a million empty lists", b'{"events":' + _list("[]", 340_000).encode() + b"}")


def plain_body() -> Body:
    """Valid events that fill the same size: what the others are compared with."""
    return Body("500 valid events", _batch(_metadata('"' + "x" * 1_960 + '"'), count=500))


def dear_messages() -> Iterator[tuple[str, pb.IngestEventsRequest]]:
    """The like of it as protobuf."""

    def metadata(values: list[Value]) -> Struct:
        return Struct(fields={"a": Value(list_value=ListValue(values=values))})

    def request(values: list[Value], count: int, key: str | None) -> pb.IngestEventsRequest:
        event = pb.IngestEvent(
            event_type="ticket.resolved",
            category="code",
            actor=pb.Actor(external_id="c1"),
            metadata=metadata(values),
        )
        return pb.IngestEventsRequest(events=[event] * count, idempotency_key=key)

    empty = Value(list_value=ListValue())
    yield "260,000 empty lists in a Struct", request([empty] * 260_000, 1, None)
    number = Value(number_value=1e300)
    yield "500 Structs of 180 times 1e300", request([number] * 180, 500, "dear")


@pressure()
async def dear_http_bodies(target: Target, tally: Tally) -> None:
    """8 clients that send one dear body after the other."""
    bodies = list(dear_bodies())

    def make(number: int) -> Connection:
        turns = itertools.cycle(bodies[number:] + bodies[:number])
        return Caller(tally, lambda: next(turns).request(target.key))

    await keep_open(target.http, CALLERS, make, tally)


@pressure()
async def dear_grpc_messages(target: Target, tally: Tally) -> None:
    """4 connections with a dear message at a time."""
    headers = call_headers("IngestEvents", target.key)
    data = [message(request.SerializeToString()) for _, request in dear_messages()]

    def make(number: int) -> Connection:
        return Calls(tally.answers, 1, headers, data[number % len(data)])

    await keep_open(target.grpc, 4, make, tally)


@pressure()
async def gzip_bombs(target: Target, tally: Tally) -> None:
    """64 clients whose 1 MB on the wire would be 1 GB of zeros."""
    bomb = gzip.compress(bytes(1_000_000_000), 9)
    request = post(target.key, bomb, EVENTS, Content_Encoding="gzip")
    await keep_open(target.http, 64, lambda _: Caller(tally, lambda: request), tally)


@pressure()
async def gzip_to_the_limit(target: Target, tally: Tally) -> None:
    """64 clients whose bodies of 1 MiB are 1 KB on the wire, most of it white space."""
    body = json.dumps({"events": []}).encode() + b" " * (MAX_BYTES - 20)
    request = post(target.key, gzip.compress(body), EVENTS, Content_Encoding="gzip")
    await keep_open(target.http, 64, lambda _: Caller(tally, lambda: request), tally)
