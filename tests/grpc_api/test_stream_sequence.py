"""StreamEvents of a producer: exactly once, by a sequence that is committed with its events."""

from __future__ import annotations

import asyncio

import grpc as grpc_library
import pytest

from tests.conftest import MakeTenant
from tests.grpc_api.conftest import Connect, OpenStream
from tests.support.running_service import Addresses, RunningService
from tests.support.stream_client import Stream, opening
from tests.support.tenant import Tenant, event, make_tenant

pytestmark = pytest.mark.anyio

OK = grpc_library.StatusCode.OK
INVALID = grpc_library.StatusCode.INVALID_ARGUMENT
ABORTED = grpc_library.StatusCode.ABORTED
OUT_OF_RANGE = grpc_library.StatusCode.OUT_OF_RANGE


async def sequences(one: Stream, *numbers: int) -> list[tuple[int, int, bool]]:
    """Send batches of one event under these sequences; their acks."""
    for number in numbers:
        await one.send(event(f"user-{number}"), sequence=number)
    acks = [await one.ack() for _ in numbers]
    return [(ack.sequence, ack.accepted, ack.duplicate) for ack in acks]


async def counted(one: Stream, producer_id: str) -> tuple[int, int, int]:
    """Open a producer; its last sequence, accepted and rejected events."""
    await one.open(producer_id)
    assert one.opened is not None
    return one.opened.last_sequence, one.opened.accepted, one.opened.rejected


async def committed(tenant: Tenant) -> dict[str, int]:
    """The last committed sequence of each producer."""
    rows = await tenant.rows(
        "SELECT producer_id, sequence FROM producers WHERE organization_id = %s",
        tenant.organization.id,
    )
    return {row["producer_id"]: row["sequence"] for row in rows}


async def test_a_producer_resumes_after_its_last_commit(stream: OpenStream, tenant: Tenant) -> None:
    first = stream(tenant.key)
    assert await first.open("producer-1") == 0
    assert await sequences(first, 1, 2, 3) == [(1, 1, False), (2, 1, False), (3, 1, False)]
    first.cancel()
    second = stream(tenant.key)
    assert await second.open("producer-1") == 3
    assert await sequences(second, 2, 3, 4) == [(2, 0, True), (3, 0, True), (4, 1, False)]
    await second.done_writing()
    assert (await second.end()).status is OK
    assert len(await tenant.events()) == 4
    assert await committed(tenant) == {"producer-1": 4}


async def test_duplicates_within_a_stream_write_nothing(stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)
    await one.open("producer-1")
    assert [ack[2] for ack in await sequences(one, 1, 1, 2, 1, 2, 3)] == [
        *(False, True, False, True, True, False)
    ]
    assert len(await tenant.events()) == 3


@pytest.mark.parametrize("gap", [3, 1_000, 2**63, 2**64 - 1])
async def test_a_gap_ends_the_stream(gap: int, stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)
    await one.open("producer-1")
    for sequence in (1, gap):
        await one.send(sequence=sequence)
    await one.send_late(sequence=2)
    end = await one.end()
    assert (end.status, end.reason) == (OUT_OF_RANGE, "SEQUENCE_GAP")
    assert [ack.sequence for ack in end.acks] == [1]
    assert str(gap) in end.message
    again = stream(tenant.key)
    last = await again.open("producer-1")
    # 2 came after the gap: it may have been committed or not, but what is told is what is.
    assert (await committed(tenant))["producer-1"] == last
    assert len(await tenant.events()) == last


@pytest.mark.parametrize("producer_id", ["", "x" * 201, "nul\0", "\N{GRINNING FACE}" * 201])
async def test_invalid_producer_ids_are_refused(
    producer_id: str, stream: OpenStream, tenant: Tenant
) -> None:
    one = stream(tenant.key)
    await one.write(opening(producer_id))
    end = await one.end()
    assert (end.status, end.reason) == (INVALID, "INVALID_BODY")
    assert "producer_id" in end.message
    assert one.opened is None


async def test_valid_producer_ids_are_accepted(stream: OpenStream, tenant: Tenant) -> None:
    for producer_id in (" ", "x" * 200, "\N{GRINNING FACE}" * 200):
        one = stream(tenant.key)
        assert await one.open(producer_id) == 0
        assert await sequences(one, 1) == [(1, 1, False)]
        # Its name comes back in the error, however wide it is.
        other = stream(tenant.key)
        await other.open(producer_id)
        assert (await one.end()).reason == "PRODUCER_TAKEN_OVER"


@pytest.mark.parametrize(
    ("sequence", "idempotency_key", "field"), [(0, None, "sequence"), (2, "key-1", "idempotency")]
)
async def test_batches_that_a_producer_cannot_send(
    sequence: int, idempotency_key: str | None, field: str, stream: OpenStream, tenant: Tenant
) -> None:
    one = stream(tenant.key)
    await one.open("producer-1")
    await one.send(sequence=1)
    await one.send(sequence=sequence, idempotency_key=idempotency_key)
    end = await one.end()
    assert (end.status, end.reason, len(end.acks)) == (INVALID, "INVALID_BODY", 1)
    assert field in end.message
    assert await committed(tenant) == {"producer-1": 1}


@pytest.mark.parametrize("size", [0, 501])
async def test_a_batch_of_no_possible_size_does_not_advance(
    size: int, stream: OpenStream, tenant: Tenant
) -> None:
    one = stream(tenant.key)
    await one.open("producer-1")
    await one.send(sequence=1)
    message = opening("unused")
    message.batch.sequence = 2
    for _ in range(size):
        message.batch.events.add()
    await one.write(message)
    await one.send_late(sequence=3)
    end = await one.end()
    assert (end.status, len(end.acks)) == (INVALID, 1)
    assert await committed(tenant) == {"producer-1": 1}
    assert len(await tenant.events()) == 1


async def test_a_producer_over_the_limit_ends_its_stream_for_good(
    stream: OpenStream, tenant: Tenant
) -> None:
    assert await stream(tenant.key).open("producer-1") == 0
    await tenant.rows(
        "UPDATE producer_counts SET producers = 10000 WHERE app_id = %s", tenant.app.id
    )
    refused = stream(tenant.key)
    await refused.write(opening("producer-2"))
    end = await refused.end()  # without RetryInfo: it has only an ErrorInfo
    assert (end.status, end.reason) == (
        grpc_library.StatusCode.RESOURCE_EXHAUSTED,
        "PRODUCER_LIMIT",
    )
    assert await stream(tenant.key).open("producer-1") == 0


async def test_opening_twice_ends_the_stream(stream: OpenStream, tenant: Tenant) -> None:
    one = stream(tenant.key)
    await one.open("producer-1")
    await one.send(sequence=1)
    await one.write(opening("producer-1"))
    end = await one.end()
    assert (end.status, len(end.acks)) == (INVALID, 1)


async def test_a_batch_of_which_nothing_is_accepted_advances(
    stream: OpenStream, new_tenant: MakeTenant
) -> None:
    tenant = await new_tenant(monthly_quota=1)
    one = stream(tenant.key)
    await one.open("producer-1")
    await one.send(event(category="?"), sequence=1)
    await one.send(event(), event(), sequence=2)
    await one.send(event(), sequence=3)
    acks = [await one.ack() for _ in range(3)]
    assert [(ack.sequence, ack.accepted) for ack in acks] == [(1, 0), (2, 1), (3, 0)]
    assert await committed(tenant) == {"producer-1": 3}
    assert await counted(stream(tenant.key), "producer-1") == (3, 1, 3)


async def test_the_events_of_committed_batches_are_counted_once(
    stream: OpenStream, tenant: Tenant
) -> None:
    one = stream(tenant.key)
    assert await counted(one, "producer-1") == (0, 0, 0)
    good, bad = event(), event(category="?")
    unknown = event(actor={"workerId": "wrk_01J0000000000000000000000Z"})
    batches = [(1, [good, bad, good]), (2, [unknown, good]), (2, [bad]), (3, [good] * 4)]
    for sequence, events in batches:
        await one.send(*events, sequence=sequence)
    acks = [await one.ack() for _ in batches]
    assert [(ack.accepted, len(ack.rejected)) for ack in acks] == [(2, 1), (1, 1), (0, 0), (4, 0)]
    assert await counted(stream(tenant.key), "producer-1") == (3, 7, 2)
    assert len(await tenant.events()) == 7


async def test_a_newer_stream_takes_over(stream: OpenStream, tenant: Tenant) -> None:
    older, newer = stream(tenant.key), stream(tenant.key)
    await older.open("producer-1")
    assert await sequences(older, 1) == [(1, 1, False)]
    assert await newer.open("producer-1") == 1
    # The older one has not moved, and hears of it all the same.
    end = await older.end()
    assert (end.status, end.reason) == (ABORTED, "PRODUCER_TAKEN_OVER")
    assert await sequences(newer, 2) == [(2, 1, False)]
    assert len(await tenant.events()) == 2


async def test_a_newer_stream_on_another_replica_takes_over(
    stream: OpenStream, replica: Addresses, connect: Connect, tenant: Tenant
) -> None:
    older, newer = stream(tenant.key), stream(tenant.key, connect(replica))
    await older.open("producer-1")
    assert await sequences(older, 1) == [(1, 1, False)]
    assert await newer.open("producer-1") == 1
    await older.send(event("too late"), sequence=2)
    end = await older.end()
    assert (end.status, end.reason, end.acks) == (ABORTED, "PRODUCER_TAKEN_OVER", [])
    assert await sequences(newer, 2, 3) == [(2, 1, False), (3, 1, False)]
    assert len(await tenant.events()) == 3


async def test_apps_and_organizations_do_not_share_producers(
    stream: OpenStream, tenant: Tenant, new_tenant: MakeTenant
) -> None:
    streams = [stream(one.key) for one in (tenant, await tenant.another_app(), await new_tenant())]
    for one in streams:
        assert await one.open("producer-1") == 0
    for one in streams:
        assert await sequences(one, 1) == [(1, 1, False)]
    # Another key of the same app speaks for the same producer.
    other_key = stream((await tenant.another_key()).key)
    assert await other_key.open("producer-1") == 1


async def test_a_batch_that_the_database_refuses_fails_alone_and_does_not_advance(
    database_url: str, connect: Connect
) -> None:
    tenant = await make_tenant(database_url)
    await tenant.rows("ALTER TABLE events ADD CONSTRAINT no_deals CHECK (event_type <> 'deal.won')")
    with RunningService(database_url) as service:
        client = connect(service.addresses)
        neighbours = [Stream(client.channel, tenant.key) for _ in range(4)]
        bad = Stream(client.channel, tenant.key)
        await bad.open("bad")
        for number, one in enumerate(neighbours):
            await one.open(f"neighbour-{number}")

        async def send(one: Stream) -> None:
            for sequence in range(1, 21):
                await one.send(sequence=sequence)
            await one.done_writing()

        async def send_mixed() -> None:
            for sequence in range(1, 11):
                await bad.send(sequence=sequence)
            await bad.send(event(eventType="deal.won"), sequence=11)
            for sequence in range(12, 21):
                await bad.send_late(sequence=sequence)

        await asyncio.gather(*map(send, neighbours), send_mixed())
        ends = await asyncio.gather(*(one.end() for one in neighbours))
        end = await bad.end()
        assert {(end.status, len(end.acks)) for end in ends} == {(OK, 20)}
        assert (end.status, end.reason) == (grpc_library.StatusCode.INTERNAL, "INTERNAL_ERROR")
        assert [ack.sequence for ack in end.acks] == list(range(1, 11))
        assert (await committed(tenant))["bad"] == 10
        assert len(await tenant.events()) == 4 * 20 + 10


async def test_a_lock_that_comes_and_goes_does_not_disorder_a_producer(
    stream: OpenStream, tenant: Tenant
) -> None:
    one = stream(tenant.key)
    await one.open("producer-1")
    assert await sequences(one, 1) == [(1, 1, False)]

    async def send(first: int) -> None:
        for number in range(first, first + 30):
            await one.send(event(f"user-{number}"), sequence=number)
            await asyncio.sleep(0.02)

    last = 1
    for _ in range(5):
        async with await tenant.connect() as db, db.transaction():
            await db.execute(
                "UPDATE quota_usage SET used = used WHERE organization_id = %s",
                (tenant.organization.id,),
            )
            sending = asyncio.create_task(send(last + 1))
            await asyncio.sleep(0.4)
        acks = [await one.ack() for _ in range(30)]  # those sent before and after the lock's end
        await sending
        assert [(ack.sequence, ack.accepted) for ack in acks] == [
            (number, 1) for number in range(last + 1, last + 31)
        ]
        last += 30
    assert len(await tenant.events()) == last
