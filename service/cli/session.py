"""A command's session: the settings, one connection to the database, and the options all share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from service.cli import completion
from service.cli.durations import parse_seconds
from service.cli.output import note

if TYPE_CHECKING:
    from core.access.key_secrets import KeySecrets
    from core.admin.apps import App
    from core.admin.cell_sessions import CellSession, CellSessions
    from core.admin.organizations import Organization
    from core.postgres.audit import Actor
    from core.postgres.sessions import Connection
    from service.settings import Settings

T = TypeVar("T")

# Longer than a server allows itself: one person waits, and no other request waits behind it.
STATEMENT_SECONDS: Final = 60
PATIENCE_SECONDS: Final = 1.0  # before a person is told what a command waits for
MAX_ACTOR_CHARACTERS: Final = 200  # of a user's name in the audit log
MAX_DIGITS: Final = 100  # of a number on the command line; its bounds are the core's


@dataclass(frozen=True)
class Session:
    """The settings and the databases of a command.

    ``db``: a session of the home database, which is migrated, in autocommit mode. ``conninfo``: its
    connection string. ``cells``: those of the cells.
    """

    settings: Settings
    db: Connection
    conninfo: str
    cells: CellSessions

    async def organization(self, given: str) -> tuple[CellSession, Organization]:
        """The organization of that id or name, and its cell."""
        from core.admin import organizations

        return await organizations.find(self.cells, given)

    async def app(self, given: str) -> tuple[CellSession, App]:
        """The app of that id, slug or ``ORG/SLUG``, and its cell."""
        from core.admin import apps

        return await apps.find_everywhere(self.cells, given)

    async def secrets(self) -> KeySecrets:
        """The secrets of the digests of this deployment's API keys."""
        from service.runtime import configured_secrets

        return await configured_secrets(self.settings, self.db)


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000


def run(work: Callable[[Session], Awaitable[T]]) -> T:
    """Do the work of a command beside whatever servers run.

    An embedded database is started, and brought up to date, if need be. Raises what
    ``service.cli.main`` explains to the person.
    """
    return asyncio.run(_run(work))


async def _run(work: Callable[[Session], Awaitable[T]]) -> T:
    from core.admin.cell_sessions import CellSessions
    from core.postgres.database import Database
    from core.postgres.errors import DatabaseUnusableError
    from core.postgres.migrate import is_migrated, migrate
    from service.settings import Settings

    settings = Settings.from_environment(os.environ)
    async with reachable_database(settings) as conninfo:
        db = await Database(conninfo).dedicated("wepeople-ingest command")
        async with db:
            if not await is_migrated(db):
                if settings.database_url is not None:
                    raise DatabaseUnusableError(
                        "the database does not have this release's tables: run "
                        "`wepeople-ingest migrate`"
                    )
                migrated = await migrate(conninfo)
                for line in migrated.lines:
                    note(line)
            await db.execute(f"SET statement_timeout = '{STATEMENT_SECONDS}s'")
            async with CellSessions(db, conninfo, STATEMENT_SECONDS, _operator()) as cells:
                try:
                    return await work(Session(settings, db, conninfo, cells))
                finally:
                    for line in cells.left_out.values():
                        note(line)


def _operator() -> Actor:
    """The person at the command line, by the system's names: no variable can make it another."""
    from core.postgres.audit import Actor

    user_id = os.getuid()
    try:
        name = pwd.getpwuid(user_id).pw_name
    except KeyError:  # as in a container
        name = f"user {user_id}"
    # Root can say what it likes; sudo says who became root.
    before = os.environ.get("SUDO_USER") if user_id == 0 else None
    if before and before != name:
        name = f"{name} ({before})"
    return Actor("command line", ascii(name)[1:-1][:MAX_ACTOR_CHARACTERS])


@contextlib.asynccontextmanager
async def reachable_database(settings: Settings) -> AsyncIterator[str]:
    """The connection string of the database that the settings name.

    A step of starting an embedded one is noted on stderr only if it takes long.
    """
    from service.postgres.open_database import open_database

    said: list[str] = []

    async def tell() -> None:
        await asyncio.sleep(PATIENCE_SECONDS)
        if said:
            note(f"{said[-1]} …")

    # A server at DATABASE_URL is not started by this command, so do not wait for it.
    progress = said.append if settings.database_url is None else None
    async with contextlib.AsyncExitStack() as stack:
        task = asyncio.create_task(tell())
        try:
            conninfo = await stack.enter_async_context(open_database(settings, progress))
        finally:
            task.cancel()
        yield conninfo


# --- options and arguments that several commands share ---------------------------------------


def _json_anywhere(context: typer.Context, value: bool) -> bool:
    return value or bool(context.find_root().params.get("as_json"))


Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON, for scripts.", callback=_json_anywhere),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones, until Ctrl-C.")]
OrganizationName = Annotated[
    str,
    typer.Argument(
        metavar="ORG",
        help="The organization: its id or its name.",
        autocompletion=completion.organizations,
    ),
]
WorkerName = Annotated[
    str, typer.Argument(metavar="W", help="The worker: an id, an e-mail or an externalId.")
]
AppName = Annotated[
    str,
    typer.Argument(
        metavar="APP",
        help="The app: its id, its slug, or ORG/SLUG.",
        autocompletion=completion.apps,
    ),
]
OnlyWorker = Annotated[
    str | None,
    typer.Option(
        "--worker",
        metavar="W",
        help="Only about this worker: an id, an e-mail or an externalId.",
        show_default=False,
    ),
]


def _duration(given: str) -> int:
    try:
        return parse_seconds(given)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def duration_option(meaning: str) -> Any:
    """An option whose value is a duration, in seconds to the command."""
    return typer.Option(parser=_duration, metavar="DURATION", help=meaning, show_default=False)


def parse_quota(given: str | None) -> int | None:
    """A quota option: a number of events or ``none``."""
    if given is None or given.lower() == "none":
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS):
        raise typer.BadParameter(
            f"{given!r} is neither a number of events nor none", param_hint="'--quota'"
        )
    return int(given)
