"""The leases on one embedded PostgreSQL: open sockets to the keeper, and the lines sent to them.

Every lease gets lines of JSON: any number of {"progress": text}, and then either {"ready": true}
as soon as PostgreSQL takes connections, with a "warning" if people should know something, or
{"error": text}. How to connect is not among it: a holder with more rights than the keeper must not
take that from the keeper. Nothing is sent after that, so
for the holder a socket that becomes readable means the end of the lease. The holder sends nothing;
the kernel closes its socket when its process ends.
"""

import json
import os
import selectors
import socket
import time
from contextlib import suppress

from service.postgres.home import peer_uid

LINGER_SECONDS = 0.5  # so that the next command of a script finds PostgreSQL running
FIRST_LEASE_SECONDS = 5.0  # for a slow process that has started the keeper


class Leases:
    """The open leases, and whether each of them has its answer."""

    def __init__(self, listener: socket.socket, wakeup: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        for source in (listener, wakeup):
            self._selector.register(source, selectors.EVENT_READ, source)
        self._listener = listener
        self._wakeup = wakeup
        self._waiting: set[socket.socket] = set()
        self._served: set[socket.socket] = set()
        self._answer: dict[str, object] | None = None
        self._progress: dict[str, object] | None = None
        self._expires_at = time.monotonic() + FIRST_LEASE_SECONDS

    def seconds_left(self) -> float | None:
        """The seconds to go on without a lease; None while there is one."""
        if self._waiting or self._served:
            return None
        return max(0.0, self._expires_at - time.monotonic())

    def progress(self, text: str) -> None:
        """Send progress to the leases that wait, and to new ones until there is an answer."""
        self._answer, self._progress = None, {"progress": text}
        for lease in tuple(self._waiting):
            self._send(lease, self._progress)

    def answer(self, answer: dict[str, object]) -> None:
        """Send the answer to the leases that wait, and to every new one from now on."""
        self._answer = answer
        for lease in tuple(self._waiting):
            self._send(lease, answer)
            self._waiting.discard(lease)
            self._served.add(lease)

    def wait(self, seconds: float | None) -> None:
        """Accept and drop leases until something happens, for at most so long (None: no bound)."""
        for key, _ in self._selector.select(seconds):
            ready: socket.socket = key.data
            if ready is self._listener:
                self._accept()
                continue
            with suppress(BlockingIOError):
                try:
                    gone = not ready.recv(4096)
                except ConnectionError:
                    gone = True
                if gone and ready is not self._wakeup:
                    self._drop(ready)

    def _accept(self) -> None:
        with suppress(OSError):  # as a rule because nobody else waits to be accepted
            while True:
                lease, _ = self._listener.accept()
                if peer_uid(lease) not in (0, os.geteuid(), None):
                    lease.close()  # it came past the socket's permissions
                    continue
                lease.setblocking(False)
                self._selector.register(lease, selectors.EVENT_READ, lease)
                self._waiting.add(lease)
                if self._answer is not None:
                    self.answer(self._answer)
                elif self._progress is not None:
                    self._send(lease, self._progress)

    def _send(self, lease: socket.socket, line: dict[str, object]) -> None:
        # These few bytes always fit; a lease closed meanwhile is dropped by `wait`.
        with suppress(OSError):
            lease.send(json.dumps(line).encode() + b"\n")

    def _drop(self, lease: socket.socket) -> None:
        self._selector.unregister(lease)
        self._waiting.discard(lease)
        self._served.discard(lease)
        lease.close()
        self._expires_at = time.monotonic() + LINGER_SECONDS
