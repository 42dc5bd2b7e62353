"""The whole service in this process, on free ports, composed as in production."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from core.clock import Clock
from service.compose import Service, running
from service.runtime import run
from service.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Addresses:
    """Where a service under test is."""

    http: str  # a URL
    grpc: str  # HOST:PORT
    database_url: str


class RunningService:
    """Runs the service in a thread with a loop of its own; a context manager.

    Tests talk to it through its sockets. An error while it stops is raised.
    """

    def __init__(
        self,
        database_url: str,
        clock: Clock | None = None,
        shown_key: str | None = None,
        **settings: Any,
    ) -> None:
        self._database_url = database_url
        self._shown_key = shown_key
        self._clock = clock
        self._settings = Settings.from_environment({}).model_copy(
            update={"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", **settings}
        )
        self._thread = threading.Thread(target=self._main, name="service under test")
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._service: Service | None = None

    def _main(self) -> None:
        try:
            run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with running(
            self._settings, self._database_url, self._clock, shown_key=self._shown_key
        ) as service:
            self._service = service
            self._ready.set()
            await self._stop.wait()

    def start(self) -> Addresses:
        """Start it; returns when it accepts traffic."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        assert self._service is not None
        return Addresses(self._service.http, self._service.grpc, self._database_url)

    def stop(self) -> None:
        """Drain and stop it, as on SIGTERM."""
        if self._thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._error is not None:
            raise self._error

    async def failure(self) -> BaseException:
        """Wait until a part of it ends by itself; the reason."""
        assert self._service is not None
        future = self._service.failure

        async def wait() -> None:
            await asyncio.wait([future])

        await self.run_in_its_loop(wait())
        error = future.exception()
        assert error is not None
        return error

    async def run_in_its_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine beside the service's own tasks; for tests that look at them."""
        assert self._loop is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def __enter__(self) -> Self:
        self.addresses = self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
