"""Sessions that stay open between the looks of tests into a database that they share.

A new session for each look costs twenty times as much as the look.
"""

from __future__ import annotations

import contextlib
import select
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

Session = AsyncConnection[Any]

# Those that nobody uses, by the cell that they are of; by the home database while they are kept.
_idle: dict[str, defaultdict[str, list[Session]]] = {}


@contextlib.contextmanager
def keeping_sessions(database_url: str) -> Iterator[None]:
    """Keep the sessions of a home database and of its cells until the block ends."""
    _idle[database_url] = defaultdict(list)
    try:
        yield
    finally:
        for sessions in _idle.pop(database_url).values():
            for session in sessions:
                _end(session)


@contextlib.asynccontextmanager
async def kept_session(
    database_url: str, cell: str, connect: Callable[[], Awaitable[Session]]
) -> AsyncIterator[Session]:
    """A session of the cell in autocommit mode, which nobody else uses within the block.

    It is a new one where none are kept, where all are in use, and where the server has ended them.
    """
    if database_url not in _idle:
        async with await connect() as session:
            yield session
        return
    idle = _idle[database_url][cell]
    session = _working(idle) or await connect()
    session.prepare_threshold = None  # a table may have changed since
    try:
        yield session
    except BaseException:
        _end(session)  # it may be within a query
        raise
    if session.info.transaction_status is TransactionStatus.IDLE:
        idle.append(session)
    else:
        _end(session)


def _working(idle: list[Session]) -> Session | None:
    while idle:
        session = idle.pop()
        told = select.poll()
        told.register(session.fileno(), select.POLLIN)
        if not told.poll(0):  # else the server says that it has ended it
            return session
        _end(session)
    return None


def _end(session: Session) -> None:
    # Not by its own close, for the event loop that it was made in may be gone.
    session.pgconn.finish()
