"""Answers: what of a batch was accepted, and what was not."""

from __future__ import annotations

import pytest

from tests.support.grpc_driver import GrpcDriver
from tests.support.tenant import Tenant, event

pytestmark = pytest.mark.anyio


async def test_five_hundred_rejections_beside_an_accepted_event_are_all_listed(
    grpc: GrpcDriver, tenant: Tenant
) -> None:
    reply = await grpc.ingest(tenant.key, [event(), *[event(category="?")] * 499])
    assert reply.code is None
    assert [one.index for one in reply.rejected] == list(range(1, 500))
