"""The connections of the gRPC port: those that never had a key give way before the port is full.

The library gives way to nobody: at its bound it closes every newcomer, and idle connections keep
their places. But they are sockets of this process. One that is shut down is to the library like one
whose client has gone, and a client without a call in it opens another without a word.

Clients of gRPC speak first, also with TLS. The kernel keeps those that have said nothing, so that
they take no place. Otherwise a thousand that come at once fill the port between two looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

# Between two looks. A descriptor takes some 5 us, so that looks take a sixth of the time.
LOOK_SECONDS: Final = 0.03
SECONDS_A_DESCRIPTOR: Final = 0.00003
LOOKS_A_TURN: Final = 200
# That the kernel keeps a silent client, who then is accepted like others.
SILENT_SECONDS: Final = 60
# Between two counts for the metrics, which so take at most a hundredth of the time.
COUNT_SECONDS: Final = 1.0
COUNT_SECONDS_A_DESCRIPTOR: Final = 0.0005
# Parts of the places. Above the first, strangers give way until the second is left, and newcomers
# among them until the first is. The rest is for those that come before the next look: strangers
# that were shut down come back together.
CROWDED: Final = 0.25
ROOMY: Final = 0.125
NEWCOMER_MS: Final = 500  # in which a stranger may yet show its key
PREFACE_BYTES: Final = 24  # with which HTTP/2 begins; TLS begins with more

_DESCRIPTORS: Final = "/dev/fd"
# Of the kernel's tcp_info: milliseconds since the client has sent anything, and how many bytes.
_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
_TCP_DEFER_ACCEPT: Final = getattr(socket, "TCP_DEFER_ACCEPT", None)
_SILENCE: Final = slice(52, 56)
_RECEIVED: Final = slice(128, 136)


class _Seen(NamedTuple):
    has_begun: bool  # as a client does
    silent_ms: int
    descriptor: int
    peer: str

    def order(self) -> tuple[bool, int]:
        """The order of giving way."""
        return self.has_begun, -self.silent_ms


class Connections:
    """The connections of a process, of which there may be ``most``.

    A stranger's is one on which no call had a usable key. Those that have not said what a client
    begins with give way first, and then those that are silent for longest. Where the kernel does
    not tell, nobody does.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0  # as counted last
        # Peers, some of which may be gone: of calls with a usable key; of strangers' calls alone.
        self._known: set[str] = set()
        self._refused: set[str] = set()

    def note_known(self, peer: str) -> None:
        """Note that a call of this peer, as grpc names it, had a usable key."""
        self._known.add(peer)
        self._refused.discard(peer)

    def note_refused(self, peer: str) -> None:
        """Note that a call of this peer was a stranger's."""
        if peer not in self._known and len(self._refused) < self.most:
            self._refused.add(peer)

    def was_refused(self, peer: Callable[[], str]) -> bool:
        """Whether there were calls on the connection of this peer, and all were strangers'."""
        return bool(self._refused) and peer() in self._refused

    async def run(self, port: int) -> None:
        """Count the connections to the port; whenever there are many, strangers give way."""
        now = asyncio.get_running_loop().time
        count_at = now()
        while _TCP_INFO is not None:
            descriptors: list[str] = []
            with contextlib.suppress(OSError):  # no descriptor is left to look with
                counts = now() >= count_at
                noted = self._known | self._refused if counts else set()
                descriptors = os.listdir(_DESCRIPTORS)
                if len(descriptors) > CROWDED * self.most:
                    await self._make_room(port, await self._look(port, descriptors))
                if counts:
                    peers = await self._peers(port, descriptors)
                    self.open = len(peers)
                    gone = noted - peers
                    self._known -= gone
                    self._refused -= gone
                    pause = max(COUNT_SECONDS, COUNT_SECONDS_A_DESCRIPTOR * len(descriptors))
                    count_at = now() + pause
            await asyncio.sleep(max(LOOK_SECONDS, SECONDS_A_DESCRIPTOR * len(descriptors)))

    async def _look(self, port: int, descriptors: list[str]) -> list[_Seen]:
        seen: list[_Seen] = []
        for number, descriptor in enumerate(descriptors, 1):
            if (one := _look_at(int(descriptor), port)) is not None:
                seen.append(one)
            if not number % LOOKS_A_TURN:
                await asyncio.sleep(0)
        return seen

    async def _peers(self, port: int, descriptors: list[str]) -> set[str]:
        peers: set[str] = set()
        for number, descriptor in enumerate(descriptors, 1):
            if (peer := _peer_of(int(descriptor), port)) is not None:
                peers.add(peer)
            if not number % LOOKS_A_TURN:
                await asyncio.sleep(0)
        return peers

    async def _make_room(self, port: int, seen: list[_Seen]) -> None:
        too_many = len(seen) - int(CROWDED * self.most)
        if too_many <= 0:
            return
        strangers = [one for one in seen if one.peer not in self._known]
        strangers.sort(key=_Seen.order)
        old = sum(one.silent_ms >= NEWCOMER_MS for one in strangers)
        giving_way = max(too_many, min(old, len(seen) - int(ROOMY * self.most)))
        for number, one in enumerate(strangers[:giving_way], 1):
            _shut_down(one, port)
            if not number % LOOKS_A_TURN:
                await asyncio.sleep(0)


def leave_silent_to_kernel(port: int) -> None:
    """Have clients of a port that listens accepted once they have said something.

    A kernel that cannot, or that keeps as many as it can, has them accepted at once.
    """
    if _TCP_DEFER_ACCEPT is None:
        return
    for descriptor in os.listdir(_DESCRIPTORS):
        with contextlib.suppress(OSError), _borrowed(int(descriptor)) as one:
            if _port(one.getsockname()) == port and one.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                one.setsockopt(socket.IPPROTO_TCP, _TCP_DEFER_ACCEPT, SILENT_SECONDS)


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    # Of the family Python takes only how long an address can be.
    one = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, fileno=descriptor)
    try:
        yield one
    finally:
        one.detach()


def _peer_of(descriptor: int, port: int) -> str | None:
    """The peer of a descriptor that is a connection to the port; its listener is none."""
    with contextlib.suppress(OSError), _borrowed(descriptor) as one:
        if _port(one.getsockname()) == port:
            return _peer(one.getpeername())
    return None


def _look_at(descriptor: int, port: int) -> _Seen | None:
    with contextlib.suppress(OSError), _borrowed(descriptor) as one:
        if _port(one.getsockname()) == port:
            peer = _peer(one.getpeername())
            assert _TCP_INFO is not None
            info = one.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _RECEIVED.stop)
            silent_ms = int.from_bytes(info[_SILENCE], sys.byteorder)
            received = int.from_bytes(info[_RECEIVED], sys.byteorder)
            return _Seen(received >= PREFACE_BYTES, silent_ms, descriptor, peer)
    return None


def _shut_down(seen: _Seen, port: int) -> None:
    """Shut a socket down, unless the descriptor is another's by now."""
    with contextlib.suppress(OSError):
        descriptor = os.dup(seen.descriptor)  # which nobody closes meanwhile
        try:
            still = _look_at(descriptor, port)
            if still is not None and still.peer == seen.peer:
                with _borrowed(descriptor) as one:
                    one.shutdown(socket.SHUT_RDWR)
        finally:
            os.close(descriptor)


def _port(name: Any) -> int | None:
    return name[1] if isinstance(name, tuple) else None


def _peer(name: Any) -> str:
    """A peer as grpc names it."""
    host = name[0].removeprefix("::ffff:")
    return f"ipv6:%5B{host}%5D:{name[1]}" if ":" in host else f"ipv4:{host}:{name[1]}"
