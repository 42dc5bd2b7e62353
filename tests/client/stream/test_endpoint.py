"""The channel and the credential of a producer."""

from __future__ import annotations

import pytest

from tests.support.running_service import Addresses
from tests.support.tenant import UNKNOWN_KEY, Tenant
from wepeople_ingest_client import ProducerError, StreamProducer

pytestmark = pytest.mark.anyio


async def test_a_wrong_key_is_told_at_the_start(server: Addresses, tenant: Tenant) -> None:
    producer = StreamProducer(server.grpc, UNKNOWN_KEY, "somebody")
    with pytest.raises(ProducerError, match="INVALID_KEY"):
        await producer.start()
