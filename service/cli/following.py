"""Commands that go on until they are stopped, which is their success."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from service.cli.output import print_json_line, print_row

if TYPE_CHECKING:
    from core.postgres.sessions import Connection

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

POLL_SECONDS: Final = 0.5


class Follower(Protocol[T_co]):
    """What is there, oldest first, and then again and again what has come since."""

    async def start(self, db: Connection, limit: int) -> Sequence[T_co]: ...

    async def news(self, db: Connection) -> Sequence[T_co]: ...


async def follow(
    follower: Follower[T],
    db: Connection,
    limit: int,
    show: Callable[[T], None],
    full: int | None = None,
) -> None:
    """Show what is followed until stopped; after a ``full`` answer the next comes at once."""
    await until_stopped(_follow(follower, db, limit, show, full))


async def _follow(
    follower: Follower[T], db: Connection, limit: int, show: Callable[[T], None], full: int | None
) -> None:
    found = await follower.start(db, limit)
    while True:
        for one in found:
            show(one)
        if full is None or len(found) < full:
            await asyncio.sleep(POLL_SECONDS)
        found = await follower.news(db)


def printer(
    to_json: Callable[[T], object],
    to_cells: Callable[[T], Sequence[str]],
    widths: Sequence[int],
    *,
    as_json: bool,
) -> Callable[[T], None]:
    """A function that prints one of what is followed: a line of JSON, or of columns."""

    def show(one: T) -> None:
        if as_json:
            print_json_line(to_json(one))
        else:
            print_row(to_cells(one), widths)

    return show


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Do work that has no end of its own until Ctrl-C or SIGTERM."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    # Also where SIGINT came ignored from the parent, as it does to a shell's background jobs.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
