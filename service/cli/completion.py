"""Names in the shell: what Tab offers for an organization, an app or a key.

A completion that fails says nothing, exits with 0 and starts no database: whoever presses Tab has
asked for nothing. ``wepeople-ingest --install-completion`` switches it on.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final, TypeVar

from service.cli.help import PROGRAM

if TYPE_CHECKING:
    from core.admin.cell_sessions import CellSessions
    from service.settings import Settings

T = TypeVar("T")

MAX_SECONDS: Final = 1.0  # for the database's answer; then there is nothing to offer
VARIABLE: Final = f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE"  # typer's: the shell's request
BASH: Final = "complete_bash"
ZSH: Final = "complete_zsh"
_SPECIAL_IN_BASH: Final = re.compile(r"[^\w@%+=:,./-]")
_SPECIAL_IN_QUOTES: Final = re.compile(r'[\\"$`]')
_LOST_IN_ZSH: Final = re.compile(r"['\"\\]")  # by typer's script
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


def organizations(incomplete: str) -> list[str]:
    """Names of organizations that begin so."""
    from core.admin import names

    return _carried(_ask(lambda cells: names.organizations(cells, incomplete)))


def apps(incomplete: str) -> list[str]:
    """Slugs of apps, and ORG/SLUG, that begin so."""
    from core.admin import names

    return _carried(_ask(lambda cells: names.apps(cells, incomplete)))


def slugs(incomplete: str) -> list[str]:
    """Slugs of apps that begin so, where the command line names the organization apart."""
    from core.admin import names

    return _carried(_ask(lambda cells: names.slugs(cells, incomplete)))


def keys(incomplete: str) -> list[tuple[str, str]]:
    """Ids of keys that begin so, each with what tells it apart. Never a key."""
    from core.admin import names

    return _ask(lambda cells: names.keys(cells, incomplete))


def _ask(query: Callable[[CellSessions], Awaitable[list[T]]]) -> list[T]:
    """The answer of the database that the settings name, or nothing."""
    signal.signal(signal.SIGALRM, _end)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        return asyncio.run(_answer(query))
    except Exception:
        return []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)  # whatever the program waits for


async def _answer(query: Callable[[CellSessions], Awaitable[list[T]]]) -> list[T]:
    from core.admin.cell_sessions import CellSessions
    from core.postgres.sessions import connect
    from service.settings import Settings

    with _running_database(Settings.from_environment(os.environ)) as conninfo:
        if conninfo is None:
            return []
        async with await connect(conninfo) as db, CellSessions(db, conninfo, 1) as cells:
            return await query(cells)


@contextlib.contextmanager
def _running_database(settings: Settings) -> Iterator[str | None]:
    """The connection string of a database that runs; None of an embedded one that does not."""
    from core.postgres.sessions import forget_libpq_variables
    from service.postgres.embedded import EmbeddedPostgres

    if settings.database_url is not None:
        yield settings.database_url
        return
    forget_libpq_variables()
    lease = EmbeddedPostgres(settings.data_dir).acquire_running(MAX_SECONDS)
    with lease or contextlib.nullcontext():
        yield None if lease is None else lease.conninfo


def _carried(names: list[str]) -> list[str]:
    """Those that typer's scripts bring to the shell as they are."""
    lost = _LOST_IN_ZSH if os.environ.get(VARIABLE) == ZSH else _UNPRINTABLE
    return [name for name in names if not lost.search(name)]


@contextlib.contextmanager
def quoting() -> Iterator[None]:
    """Have what is offered to bash be quoted, as bash takes it over as it is."""
    if os.environ.get(VARIABLE) != BASH:
        yield
        return
    offered = io.StringIO()
    try:
        with contextlib.redirect_stdout(offered):
            yield
    finally:
        typed = os.environ.get("COMP_WORDS", "").split("\n")
        number = int(os.environ.get("COMP_CWORD", "0"))
        word = typed[number] if number < len(typed) else ""
        sys.stdout.writelines(f"{_quoted(line, word)}\n" for line in offered.getvalue().split("\n"))


def _quoted(name: str, word: str) -> str:
    """A name as it goes on from the word that was begun, in its quotes if it has any."""
    if word.startswith('"'):
        return _SPECIAL_IN_QUOTES.sub(r"\\\g<0>", name)
    if word.startswith("'"):
        return name.replace("'", "'\\''")
    return _SPECIAL_IN_BASH.sub(r"\\\g<0>", name)
