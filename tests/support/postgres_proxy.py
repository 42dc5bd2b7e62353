"""A proxy before PostgreSQL that loses connections exactly where a test wants it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Literal, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

CHUNK_BYTES = 65_536
# What a transaction of the journal does that accepts something of a batch, or nothing of it.
COPY = b"COPY events"
WRITES = (COPY, b"EXECUTE advance_producers")
BEGIN = b"BEGIN;"
COPY_DONE = b"c\0\0\0\4"  # the message
CHANGES = b"wepeople-ingest changes"  # the application name of the notification connection


class Link:
    """One client's connection and ours to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.ends = (client, server)
        self.hears_changes = False
        # In the transaction that is open. A COMMIT that is sent with a COPY waits for its end.
        self.written = self.copying = self.committing = False
        self.drops_answer = False

    def cut(self) -> None:
        """Close both sides."""
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Forwards to the server of a connection string; ``conninfo`` is the way through it."""

    def __init__(self, conninfo: str) -> None:
        target = conninfo_to_dict(conninfo)
        self._host, self._port = str(target["host"]), int(target.get("port") or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._links: list[Link] = []
        self._moving = threading.Event()
        self._moving.set()
        self.refusing = False
        self.refusing_changes = False
        self.frozen_changes = self.frozen = False
        self.cuts: Literal["before", "after"] = "after"  # the server has seen COMMIT
        self.commits_to_cut = 0
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

    def cut(self, *, changes_only: bool = False) -> None:
        """Lose the connections there are."""
        for link in list(self._links):
            if link.hears_changes or not changes_only:
                link.cut()

    def away(self, away: bool) -> None:
        """Have the server gone, or come back."""
        self.refusing = away
        if away:
            self.cut()

    def freeze_changes(self) -> None:
        """Let the notification connections hang: open, and nothing comes through."""
        self._moving.clear()
        self.frozen_changes = True

    def freeze(self, frozen: bool) -> None:
        """Let everything hang, as before a server that is stopped; or go on."""
        self.frozen = frozen
        (self._moving.clear if frozen else self._moving.set)()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            server = self._connect()
            link = Link(client, server)
            self._links.append(link)
            for work in (self._to_server, self._to_client):
                threading.Thread(target=self._run, args=(work, link), daemon=True).start()

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return server

    def _run(self, work: object, link: Link) -> None:
        assert callable(work)
        with contextlib.suppress(OSError):
            work(link, *link.ends)
        link.cut()

    def _to_server(self, link: Link, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(CHUNK_BYTES):
            if CHANGES in data:
                link.hears_changes = True
                if self.refusing_changes:
                    return
            self._pause(link)
            if BEGIN in data:
                link.written = link.copying = link.committing = False
            link.written = link.written or any(write in data for write in WRITES)
            link.copying = (link.copying or COPY in data) and not data.endswith(COPY_DONE)
            link.committing = link.committing or b"COMMIT\0" in data
            if link.written and link.committing and not link.copying:
                link.written = False
                if self.commits_to_cut:
                    self.commits_to_cut -= 1
                    if self.cuts == "before":
                        return
                    link.drops_answer = True
            server.sendall(data)

    def _to_client(self, link: Link, client: socket.socket, server: socket.socket) -> None:
        while data := server.recv(CHUNK_BYTES):
            self._pause(link)
            if link.drops_answer:
                self.committed()
                return
            client.sendall(data)

    def _pause(self, link: Link) -> None:
        if self.frozen or (self.frozen_changes and link.hears_changes):
            self._moving.wait()

    def committed(self) -> None:
        """Called when the server has committed and the client is not to hear of it."""
