"""Free-form objects as a Struct and as JSON text."""

from __future__ import annotations

import json

import pytest
from google.protobuf.struct_pb2 import Struct

from tests.grpc_api.messages import message, send, send_snapshot, struct
from tests.support.grpc_driver import GrpcDriver
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio


async def test_struct_is_stored_as_a_person_would_write_it(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    value = {
        "whole": 3,
        "negative": -7.0,
        "half": 2.5,
        "tenth": 0.1,
        "huge": 1e300,
        "exact": 2**53,
        "text": 'Zoë \N{GRINNING FACE} "quoted"',
        "yes": True,
        "nothing": None,
        "list": [1, "two", {"three": 3}],
        "empty": {},
        "": "empty name",
    }
    reply = await send(grpc, tenant, message(metadata=struct(value)))
    assert reply.code is None
    [stored] = await tenant.events()
    assert json.loads(stored["metadata"]) == value
    for text in ('"whole":3,', '"negative":-7,', '"half":2.5', '"tenth":0.1', "9007199254740992"):
        assert text.rstrip(",") in stored["metadata"]
    assert ".0" not in stored["metadata"]


async def test_json_bytes_are_stored_compact_to_the_last_digit(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    text = '{ "b": 1.0, "a": 0.1000000000000000055511151231257827, "a": 123456789012345678901 }'
    reply = await send(grpc, tenant, message(metadata_json=text.encode()))
    assert reply.code is None
    [stored] = await tenant.events()
    assert stored["metadata"] == '{"b":1.0,"a":123456789012345678901}'


async def test_empty_struct_is_an_empty_object_and_none_is_none(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    reply = await send(
        grpc, tenant, message(metadata=Struct()), message(), message(metadata_json=b"{}")
    )
    assert reply.code is None
    assert [one["metadata"] for one in await tenant.events()] == ["{}", None, "{}"]


async def test_metrics_as_struct_and_as_json(grpc: GrpcDriver, tenant: Tenant) -> None:
    metrics = {"open": 12, "load": "normal", "score": {"value": 4.5, "unit": "score"}}
    text = b'{"open": 12.0}'
    for members in ({"metrics": struct(metrics)}, {"metrics_json": text}):
        assert (await send_snapshot(grpc, tenant, **members)).code is None
    first, second = await tenant.history()
    assert json.loads(first["metrics"]) == metrics
    assert '"open":12' in first["metrics"]
    assert ".0" not in first["metrics"]
    assert second["metrics"] == '{"open":12.0}'
