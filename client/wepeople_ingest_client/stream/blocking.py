"""A producer for programs without asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from wepeople_ingest_client.stream.event_json import Event
from wepeople_ingest_client.stream.metrics import ProducerMetrics
from wepeople_ingest_client.stream.producer import END_SECONDS, StreamProducer
from wepeople_ingest_client.stream.status import ProducerError

T = TypeVar("T")


class BlockingStreamProducer:
    """A :class:`StreamProducer` whose methods block; any thread may call them.

        with BlockingStreamProducer(StreamProducer(target, api_key, "crm-export")) as producer:
            producer.send(event)

    The producer must not be started. It runs in a thread with an event loop of its own, from
    :meth:`start` to :meth:`close` or :meth:`abort`. Its ``on_rejected`` is called in that thread,
    and cannot call these methods. A process that is forked meanwhile needs a producer of its own:
    there they raise RuntimeError, and :meth:`abort` does nothing. Otherwise each method promises
    and raises what the producer's method does. An interrupted call, as by Ctrl-C, is cancelled in
    the producer. :meth:`send` changes threads once for each event, :meth:`send_batch` once for all
    of its events.
    """

    def __init__(self, producer: StreamProducer) -> None:
        self._producer = producer
        self._thread = threading.Thread(target=self._serve, name="stream-producer", daemon=True)
        self._serving = threading.Event()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # takes calls
        self._ended = asyncio.Event()
        self._failure: Exception | None = None  # what a close raises once all is over

    # --- beginning and end ---------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close; after a :class:`ProducerError` or an interruption, :meth:`abort` instead."""
        if isinstance(error, ProducerError) or not isinstance(error, Exception | None):
            self.abort()
        else:
            self.close()

    def start(self) -> None:
        """Open the first stream; returns when the server has answered."""
        if self._thread.ident is not None:
            raise RuntimeError("a producer starts once")
        self._thread.start()
        self._serving.wait()
        try:
            self._call(self._producer.start())
        except BaseException:
            self.abort()
            raise

    def flush(self) -> None:
        """Wait until every event handed over so far is acked."""
        self._call(self._producer.flush())

    def close(self) -> None:
        """Take no more events, wait for the last ack, then end the stream and its thread."""
        closing = self._begin(self._producer.close())
        if closing is not None:
            try:
                _result(closing)
            finally:
                self._stop()
        elif self._thread.ident is not None:
            self._thread.join()  # another caller's end may be under way
            if self._failure is not None:
                raise self._failure

    def abort(self, wait_seconds: float = 0.0) -> None:
        """End without sending the batches that are not in flight."""
        if not self._thread.is_alive():
            return
        aborting = self._begin(self._producer.abort(wait_seconds))
        try:
            if aborting is not None:
                _result(aborting)
        finally:
            self._stop()

    # --- figures -------------------------------------------------------------------------------

    @property
    def resumed_sequence(self) -> int:
        """As :attr:`StreamProducer.resumed_sequence`."""
        return self._producer.resumed_sequence

    @property
    def resumed_accepted(self) -> int:
        """As :attr:`StreamProducer.resumed_accepted`."""
        return self._producer.resumed_accepted

    @property
    def resumed_rejected(self) -> int:
        """As :attr:`StreamProducer.resumed_rejected`."""
        return self._producer.resumed_rejected

    @property
    def resumed_events(self) -> int:
        """As :attr:`StreamProducer.resumed_events`."""
        return self._producer.resumed_events

    @property
    def metrics(self) -> ProducerMetrics:
        """The figures of this moment."""
        return self._producer.metrics

    # --- handing events over -------------------------------------------------------------------

    def send(self, event: Event) -> int:
        """Hand an event over; returns its number. Waits while the buffer is full."""
        return self._call(self._producer.send(event))

    def send_batch(self, events: Iterable[Event]) -> int:
        """Hand over events as one batch; returns its sequence."""
        return self._call(self._producer.send_batch(events))

    # --- the thread ----------------------------------------------------------------------------

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        called = self._begin(coroutine)
        if called is None:
            raise RuntimeError("the producer is not open")
        return _result(called)

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T] | None:
        """Hand a call to the thread; returns None if it takes none: not yet, or no more."""
        try:
            self._check_caller()
            with self._lock:
                if self._loop is not None:
                    return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except BaseException:
            coroutine.close()
            raise
        coroutine.close()
        return None

    def _check_caller(self) -> None:
        """Raise RuntimeError for a caller that would wait for ever."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("on_rejected cannot call the producer that calls it")
        if self._thread.ident is not None:
            self._serving.wait()
            if self._loop is not None and not self._thread.is_alive():
                raise RuntimeError("the producer runs in the process that has started it")

    def _stop(self) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.run(self._take_calls())

    async def _take_calls(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._serving.set()
        await self._ended.wait()
        with self._lock:
            self._loop = None
        await asyncio.sleep(0)  # what was handed over before begins
        if calls := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(calls, timeout=END_SECONDS)
        try:
            await self._producer.close()
        except Exception as error:
            self._failure = error


def _result(called: Future[T]) -> T:
    """Wait for the result of a call; an interruption cancels the call."""
    try:
        return called.result()
    except BaseException:
        called.cancel()
        raise
