"""The REST client for programs that block.

from wepeople_ingest_client import Actor, Client, Event

with Client("https://wepeople.app", key) as client:
    result = client.ingest_events(
        [
            Event(
                event_type="ticket.resolved",
                category="project_management",
                actor=Actor(external_id="crm-user-42"),
            )
        ]
    )
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import TypeVar

import httpx

from wepeople_ingest_client.models import (
    AnyEvent,
    AnySnapshot,
    BatchResult,
    PingResult,
    SnapshotResult,
)
from wepeople_ingest_client.rest import calls
from wepeople_ingest_client.rest.http_io import (
    DEFAULT_TIMEOUT_SECONDS,
    AnswerReader,
    OneProcess,
    http_options,
    no_answer,
)
from wepeople_ingest_client.rest.retries import DEFAULT_RETRIES, Retries
from wepeople_ingest_client.rest.steps import Pause, Reply, Request, Steps

T = TypeVar("T")


class Client:
    """Calls the REST API; a context manager. Threads may share one.

    Processes may not: a client that was used before a fork raises RuntimeError in the new process.

    ``base_url`` is that of the service, such as ``https://wepeople.app``. ``key`` is an API key,
    ``wp_live_…``. ``timeout`` bounds, in seconds, the connecting, each wait for the service, and
    the arrival of an answer. ``transport`` replaces httpx's, as to trust a CA of your own:
    ``httpx.HTTPTransport(verify=ssl_context)``. Raises ValueError for options that cannot work.

    **Repeats.** A request that got no answer, or an error that passes (``rate_limited``,
    ``internal_error``, a proxy's 5xx), is sent again within the bounds of ``retries``, after the
    service's ``Retry-After`` and a random pause. Every repeat carries the idempotency key of the
    first attempt, so that nothing is stored twice. Other errors are raised at once, as the
    subclass of :class:`~wepeople_ingest_client.ApiError` for their code.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retries: Retries = DEFAULT_RETRIES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
        self._retries = retries
        self._process = OneProcess()
        self._http = httpx.Client(**http_options(base_url, key, timeout), transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client cannot be used any more."""
        self._http.close()

    def ping(self) -> PingResult:
        """Check the key, and return whom it speaks for. Raises ``IngestError``."""
        return self._carry_out(calls.ping(self._retries))

    def ingest_events(
        self, events: Iterable[AnyEvent], *, idempotency_key: str | None = None
    ) -> BatchResult:
        """Send events, and return what became of each, by its place in the list.

        An event is an :class:`~wepeople_ingest_client.Event`, or a mapping with the members of the
        JSON document. Over 500 events or 1 MiB of JSON are sent as several requests, in order; no
        events are sent as none. Raises ValueError, before anything is sent, for an event that JSON
        cannot express or that is over 1 MiB by itself.

        Some events rejected is a success: see ``result.rejected``, and ``result.retryable`` for
        those that are worth sending again once something was changed. All events rejected raises
        the error of the first one, whose ``result`` tells about the others. Any other failure stops
        the list. The error's ``result`` tells what became of the events before it.

        Without an ``idempotency_key`` (1 to 200 characters), the call makes one of its own. A call
        that is made again with the same events and key within ten minutes stores nothing twice.
        Several requests have the key with ``-1``, ``-2`` and so on behind it.
        """
        return self._carry_out(calls.ingest_events(events, idempotency_key, self._retries))

    def ingest_snapshot(
        self, snapshot: AnySnapshot, *, idempotency_key: str | None = None
    ) -> SnapshotResult:
        """Send a snapshot, and return whom it is about.

        The snapshot is a :class:`~wepeople_ingest_client.Snapshot`, or a mapping with the members
        of the JSON document. ``idempotency_key`` is as for :meth:`ingest_events`. Raises
        ``IngestError``, and ValueError for a snapshot that JSON cannot express.
        """
        return self._carry_out(calls.ingest_snapshot(snapshot, idempotency_key, self._retries))

    def _carry_out(self, steps: Steps[T]) -> T:
        self._process.check()
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                reply = None
            else:
                reply = self._send(step)

    def _send(self, request: Request) -> Reply:
        try:
            with self._http.stream(
                request.method, request.path, headers=request.headers, content=request.body
            ) as response:
                reader = AnswerReader(response, self._timeout)
                for piece in response.iter_bytes():
                    reader.take(piece)
                return reader.answer()
        except httpx.RequestError as error:
            return no_answer(error)
