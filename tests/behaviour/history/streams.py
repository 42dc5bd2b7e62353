"""Clients of streams, with and without a producer id, that go away in every manner."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc
from grpc_status import rpc_status

from grpc_api.pb import ingest_pb2 as pb
from tests.behaviour.history.record import Answer, Body, KeyRecord, Operation
from tests.behaviour.history.world import World
from tests.support.grpc_driver import event_message
from tests.support.stream_client import PATIENCE_SECONDS, End, Stream, checked

MAX_SENT_AHEAD = 4
MAX_BATCHES_A_STREAM = 40
MAX_SENT_TWICE = 3
REOPEN_PAUSE_SECONDS = 0.1


class Sender:
    """A stream and the batches in it that have no ack yet, in their order."""

    def __init__(self, world: World, channel: grpc.aio.Channel, key: KeyRecord) -> None:
        self._world = world
        self._stream = Stream(channel, key.tenant.key)
        self.waiting: deque[Operation] = deque()
        self.opened: int | None = None
        self.end: End | None = None

    async def open(self, producer_id: str) -> int | None:
        """Open as a producer; the last committed sequence, or None if the stream has ended."""
        message = pb.StreamEventsRequest(open=pb.StreamOpen(producer_id=producer_id))
        if await self._write(message):
            await self._read_opened()
        return self.opened

    async def send(self, body: Body) -> bool:
        """Send a batch; False if the stream has ended, as when it ends in the middle of this."""
        message = pb.StreamEventsRequest(
            batch=pb.StreamBatch(
                sequence=body.number,
                idempotency_key=body.idempotency_key,
                events=[event_message(item.json) for item in body.items],
            )
        )
        self.waiting.append(self._world.begin(body, "stream"))
        return await self._write(message)

    async def ack(self) -> bool:
        """Take the next ack; False if the stream has ended."""
        await self._read_opened()
        ack = await self._read()
        if ack is None:
            return False
        operation = self.waiting.popleft()
        body = operation.body
        if ack.sequence != body.number:
            self._world.history.violations.append(f"acked {ack.sequence}, not {body.number}")
        await self._world.end(
            operation,
            Answer(
                code=None,
                accepted=ack.accepted,
                rejected=tuple((one.index, one.code, one.message) for one in ack.rejected),
                request_id=ack.request_id,
                replayed=ack.replayed,
                duplicate=ack.duplicate,
                quota_left=ack.quota_left if ack.HasField("quota_left") else None,
            ),
        )
        return True

    async def finish(self) -> None:
        """Say that nothing more comes, and take the acks that are still due."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._stream.done_writing()
        while await self.ack():
            pass
        if self.end is not None and self.end.status is grpc.StatusCode.OK and self.waiting:
            self._world.history.violations.append(f"ended in peace, not acked: {self.waiting}")

    async def close(self) -> None:
        """Go away without a word."""
        await self._stream.close()

    async def note_end(self) -> str:
        """Why the stream ended; the batch it ended at gets that as its answer."""
        reason = self.end.reason if self.end else ""
        if self.end and self.waiting and reason == "INVALID_BODY":
            answer = Answer(reason.lower(), 0, message=self.end.message)
            await self._world.end(self.waiting.popleft(), answer)
        return reason

    async def _write(self, message: pb.StreamEventsRequest) -> bool:
        try:
            await self._stream.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False  # reading tells why
        return True

    async def _read_opened(self) -> None:
        if self.opened is None:
            await self._read()

    async def _read(self) -> pb.StreamAck | None:
        while self.end is None:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    response: Any = await self._stream.call.read()
            except grpc.aio.AioRpcError as error:
                # The library loses the status of a stream that ends in the middle of a write.
                known = rpc_status.from_call(error) is not None  # type: ignore[arg-type]
                reason, message = checked(error) if known else ("", "")
                self.end = End(error.code(), reason, message, ())
            else:
                if not isinstance(response, pb.StreamEventsResponse):
                    self.end = End(await self._stream.call.code(), "", "", ())
                elif response.WhichOneof("message") == "ack":
                    ack: pb.StreamAck = response.ack
                    return ack
                elif self.opened is not None:
                    self._world.history.violations.append("a stream was opened twice")
                else:
                    self.opened = response.opened.last_sequence
                    return None
        return None


async def plain_stream(world: World, name: str, channels: Sequence[grpc.aio.Channel]) -> None:
    """A client of streams without a producer id, whose batches may have idempotency keys."""
    dice = world.random(name)
    while world.open:
        key = dice.choice(world.history.keys)
        sender = Sender(world, dice.choice(channels), key)
        for _ in range(dice.randint(1, MAX_BATCHES_A_STREAM)):
            if not await sender.send(world.choose(dice, key, "events")):
                break
            ahead = len(sender.waiting) >= dice.randint(1, MAX_SENT_AHEAD)
            if ahead and not await sender.ack():
                break
        if dice.random() < 0.2:
            await sender.close()
            continue
        await sender.finish()
        await _check_end(world, sender, key, {"", "INVALID_BODY", "KEY_REVOKED", "PLAN_DISABLED"})
        await sender.close()


async def producer(
    world: World, name: str, key: KeyRecord, channels: Sequence[grpc.aio.Channel]
) -> None:
    """A producer that loses its connection, or is taken over by itself, again and again."""
    dice = world.random(name)
    batches: list[Body] = []
    acked = 0
    older: Sender | None = None
    while True:
        last_visit = not world.open
        sender = Sender(world, dice.choice(channels), key)
        last = await sender.open(name)
        if older is not None:
            acked = max(acked, await _taken_over(world, older, key))
            older = None
        if last is not None:
            if not acked <= last <= len(batches):
                world.history.violations.append(f"{name}: {last}, not {acked}..{len(batches)}")
                await sender.close()
                return
            # Now and then some of what is committed is sent again.
            following = last - (
                dice.randint(0, min(last, MAX_SENT_TWICE)) if dice.random() < 0.5 else 0
            )
            for _ in range(0 if last_visit else dice.randint(1, MAX_BATCHES_A_STREAM)):
                if following == len(batches):
                    body = world.body(dice, key, producer_id=name, number=following + 1)
                    batches.append(body)
                if not await sender.send(batches[following]):
                    break
                following += 1
                if len(sender.waiting) >= dice.randint(1, MAX_SENT_AHEAD):
                    number = sender.waiting[0].body.number
                    if not await sender.ack():
                        break
                    acked = max(acked, number)
            if not last_visit and sender.end is None:
                match dice.randrange(3):
                    case 0:
                        await sender.close()
                        continue
                    case 1:
                        older = sender
                        continue
        await sender.finish()
        reason = await _check_end(world, sender, key, {"", "KEY_REVOKED", "PLAN_DISABLED"})
        await sender.close()
        if last_visit or reason == "KEY_REVOKED":
            return
        await asyncio.sleep(REOPEN_PAUSE_SECONDS)


async def _taken_over(world: World, sender: Sender, key: KeyRecord) -> int:
    """Take the last acks of a stream that another took over; the highest sequence acked."""
    acked = 0
    while sender.waiting:
        number = sender.waiting[0].body.number
        if not await sender.ack():
            break
        acked = number
    await _check_end(
        world, sender, key, {"", "PRODUCER_TAKEN_OVER", "KEY_REVOKED", "PLAN_DISABLED"}
    )
    await sender.close()
    return acked


async def _check_end(world: World, sender: Sender, key: KeyRecord, reasons: set[str]) -> str:
    begin = time.monotonic() - world.seconds
    reason = await sender.note_end()
    if reason not in reasons:
        world.history.violations.append(f"a stream ended: {sender.end}")
    if reason == "KEY_REVOKED" and True not in key.revoked.possible(begin, time.monotonic()):
        world.history.violations.append("a stream ended by a revocation that was none")
    return reason
