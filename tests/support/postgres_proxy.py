"""A proxy before PostgreSQL that loses connections exactly where a test wants it.

It follows the protocol: unlike :class:`tests.support.tcp_proxy.TcpProxy` it knows a COMMIT.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final, Literal, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

CHUNK_BYTES: Final = 65_536
# A transaction of the journal that accepts something of a batch does one of the first two of these;
# one that accepts nothing of it does the third.
COPY: Final = b"COPY events"
WRITES: Final = (COPY, b"EXECUTE insert_event", b"EXECUTE advance_producers")
BEGIN: Final = b"BEGIN;"
COMMIT: Final = b"COMMIT\0"
COPY_DONE: Final = b"c\0\0\0\4"  # the message
NOTIFICATIONS: Final = b"wepeople-ingest changes"  # the application name of that connection


class ProxiedConnection:
    """One client's connection to the proxy, and the proxy's to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.ends = (client, server)
        self.has_notifications = False
        # Of the transaction that is open. A COMMIT that is sent with a COPY waits for its end.
        self.has_written = self.is_copying = self.is_committing = False
        self.loses_answer = False

    def follow(self, data: bytes) -> bool:
        """Note what the client sends; returns whether it completes a COMMIT that matters."""
        if BEGIN in data:
            self.has_written = self.is_copying = self.is_committing = False
        self.has_written = self.has_written or any(write in data for write in WRITES)
        self.is_copying = (self.is_copying or COPY in data) and not data.endswith(COPY_DONE)
        self.is_committing = self.is_committing or COMMIT in data
        if self.has_written and self.is_committing and not self.is_copying:
            self.has_written = False
            return True
        return False

    def cut(self) -> None:
        """Close both sides."""
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class PostgresProxy:
    """Forwards to the server of a connection string; ``conninfo`` is the way through it."""

    def __init__(self, conninfo: str) -> None:
        target = conninfo_to_dict(conninfo)
        self._host, self._port = str(target["host"]), int(target.get("port") or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[ProxiedConnection] = []
        self._moving = threading.Event()
        self._moving.set()
        self._is_away = self._frozen_notifications = False
        self._cut_moment: Literal["before", "after"] = "after"
        self.is_frozen = False
        self.is_holding = False  # something that came since it was frozen
        self.commits_to_cut = 0
        self.refuses_notifications = False
        # Called when the server has committed and its answer is lost.
        self.on_lost_answer: Callable[[], None] = lambda: None
        self.conninfo = make_conninfo(
            conninfo,
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            sslmode="disable",
            gssencmode="disable",
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._moving.set()
        self.cut()

    # --- faults -----------------------------------------------------------------------------------

    def cut(self, *, notifications_only: bool = False) -> None:
        """Lose the connections there are."""
        for connection in list(self._connections):
            if connection.has_notifications or not notifications_only:
                connection.cut()

    def cut_commits(self, moment: Literal["before", "after"], count: int = 1) -> None:
        """Lose the connections of the next COMMITs, before or after the server has seen them."""
        self._cut_moment, self.commits_to_cut = moment, count

    def go_away(self) -> None:
        """Have the server gone: connections are lost, and new ones refused."""
        self._is_away = True
        self.cut()

    def come_back(self) -> None:
        """Have the server there again."""
        self._is_away = False

    def freeze(self) -> None:
        """Let everything hang, as before a server that is stopped."""
        self._moving.clear()
        self.is_holding, self.is_frozen = False, True

    def unfreeze(self) -> None:
        """Let everything go on."""
        self.is_frozen = False
        self._moving.set()

    def freeze_notifications(self) -> None:
        """Let the notification connections hang: open, and nothing comes through."""
        self._moving.clear()
        self._frozen_notifications = True

    # --- forwarding -------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._is_away:
                client.close()
                continue
            try:
                server = self._connect()
            except OSError:  # nobody is there: the client shall see as much
                client.close()
                continue
            connection = ProxiedConnection(client, server)
            self._connections.append(connection)
            for forward in (self._to_server, self._to_client):
                arguments = (forward, connection)
                threading.Thread(target=self._run, args=arguments, daemon=True).start()

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return server

    def _run(
        self, forward: Callable[[ProxiedConnection], None], connection: ProxiedConnection
    ) -> None:
        with contextlib.suppress(OSError):
            forward(connection)
        connection.cut()

    def _to_server(self, connection: ProxiedConnection) -> None:
        client, server = connection.ends
        while data := client.recv(CHUNK_BYTES):
            if NOTIFICATIONS in data:
                connection.has_notifications = True
                if self.refuses_notifications:
                    return
            self._wait_if_frozen(connection)
            if connection.follow(data) and self.commits_to_cut:
                self.commits_to_cut -= 1
                if self._cut_moment == "before":
                    return
                connection.loses_answer = True
            server.sendall(data)

    def _to_client(self, connection: ProxiedConnection) -> None:
        client, server = connection.ends
        while data := server.recv(CHUNK_BYTES):
            self._wait_if_frozen(connection)
            if connection.loses_answer:
                self.on_lost_answer()
                return
            client.sendall(data)

    def _wait_if_frozen(self, connection: ProxiedConnection) -> None:
        if self.is_frozen or (self._frozen_notifications and connection.has_notifications):
            self.is_holding = True
            self._moving.wait()
