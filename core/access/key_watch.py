"""One watch of the keys of all open streams, which end when their key may be used no more.

One task looks at each distinct credential, however many streams have it. A task for each stream
cost half a core with 3,000 idle ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Final

from core.access.authentication import MAX_CALLER_AGE_SECONDS, Authenticator
from core.error_codes import ErrorCode
from core.errors import IngestError

LOOKS_A_TURN: Final = 200  # between two turns of the event loop; a look takes some 5 us

OnLoss = Callable[[BaseException], None]


class KeyWatch:
    """Looks at each key that a stream was opened with, every ``MAX_CALLER_AGE_SECONDS``.

    The task runs while there are streams. Keys that have to be read from the database are read
    beside it, so that one that takes long does not keep the others waiting.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._watched: dict[str, dict[object, OnLoss]] = {}  # by Authorization value
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def watching(self, authorization: str, on_loss: OnLoss) -> Iterator[None]:
        """Call ``on_loss`` with the error once the key is not usable, during the block.

        It is not called when the key cannot be looked up for now (``internal_error``).
        """
        entry = object()
        self._watched.setdefault(authorization, {})[entry] = on_loss
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._ended)
        try:
            yield
        finally:
            streams = self._watched[authorization]
            del streams[entry]
            if not streams:
                del self._watched[authorization]
            if not self._watched and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(MAX_CALLER_AGE_SECONDS)
            for number, authorization in enumerate(list(self._watched), 1):
                self._look(authorization)
                if not number % LOOKS_A_TURN:
                    await asyncio.sleep(0)

    def _look(self, authorization: str) -> None:
        caller = self._authenticator.recall(authorization)
        if caller is not None:
            try:
                self._authenticator.check_usable(caller)
            except IngestError as error:
                self._lose(authorization, error)
        elif authorization not in self._reading:
            task = asyncio.create_task(self._read(authorization))
            self._reading[authorization] = task
            task.add_done_callback(lambda _: self._reading.pop(authorization))

    async def _read(self, authorization: str) -> None:
        try:
            await self._authenticator.authenticate(authorization)
        except IngestError as error:
            if error.code is not ErrorCode.INTERNAL_ERROR:
                self._lose(authorization, error)
        except Exception as error:  # no stream goes on without a watch on its key
            self._lose(authorization, error)

    def _lose(self, authorization: str, error: BaseException) -> None:
        for on_loss in list(self._watched.get(authorization, {}).values()):
            on_loss(copy.copy(error))  # each stream raises its own

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._task = None
            for authorization in list(self._watched):
                self._lose(authorization, error)
