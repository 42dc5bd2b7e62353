"""``wepeople-ingest serve`` and ``migrate``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from service.cli.help import Command, examples
from service.cli.output import note, print_json, print_text
from service.cli.session import Json, reachable_database

if TYPE_CHECKING:
    from service.settings import Settings


class ServeCommand(Command):
    """Adds the settings to the help, which are read only when somebody asks for it."""

    def format_options(self, context: Any, formatter: Any) -> None:
        """The options, then the settings."""
        from service.settings import settings_help

        super().format_options(context, formatter)
        with formatter.section("Settings, by environment"):
            formatter.write_dl(
                [
                    (variable, f"{meaning}  [default: {default}]" if default else meaning)
                    for variable, default, meaning in settings_help()
                ]
            )


def _checked(variable: str) -> Any:
    def check(given: str | None) -> str | None:
        if given is not None:
            from service.settings import Settings, SettingsError

            try:
                Settings.from_environment({variable: given or "nothing"})
            except SettingsError as error:
                raise typer.BadParameter(str(error).removeprefix(f"{variable}: ")) from None
        return given

    return check


def _workers(given: str | None) -> int | str | None:
    if _checked("WEPEOPLE_WORKERS")(given) is None:
        return None
    from service.settings import Settings

    return Settings.from_environment({"WEPEOPLE_WORKERS": given or ""}).server_processes


HttpAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where the REST API listens; port 0 is any free port. Default: WEPEOPLE_HTTP.",
        callback=_checked("WEPEOPLE_HTTP"),
        show_default=False,
    ),
]
GrpcAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where the gRPC API listens; port 0 is any free port. Default: WEPEOPLE_GRPC.",
        callback=_checked("WEPEOPLE_GRPC"),
        show_default=False,
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="How many processes serve together, on the same two ports; auto: as many as this "
        "machine has use for. Default: WEPEOPLE_WORKERS.",
        callback=_workers,
        show_default=False,
    ),
]
Demo = Annotated[
    bool, typer.Option("--demo", help="Make an organization, an app and a key to try it with.")
]


def serve(
    http: HttpAddress = None,
    grpc: GrpcAddress = None,
    workers: Workers = None,
    demo: Demo = False,
    as_json: Json = False,
) -> None:
    """Run the service until Ctrl-C or SIGTERM; what was begun is then finished.

    Without DATABASE_URL it brings a PostgreSQL of its own. The database is brought up to date
    first. Logs go to stderr. With --json the only output on stdout is one line, as soon as the
    service accepts traffic: {"event": "ready", "http": URL, "grpc": HOST:PORT}. SIGHUP has the TLS
    files read again, which also happens by itself when they are renewed; when the terminal is gone
    it ends the service.

    It is one process or, with free cores or --workers, several: one then supervises the others,
    replaces those that end and is the one to signal. /readyz and grpc.health.v1 then speak for all:
    not ready until all have started, while fewer than half accept traffic, and while stopping.
    /metrics (Prometheus) needs no key: keep it inside.
    """
    from service.cli.announcement import announce
    from service.gc_settings import postpone_gc
    from service.hangup import Hangup
    from service.logs import configure_logs
    from service.rates import check_rate_store
    from service.settings import Settings
    from service.tls import check_tls_files, warn_of_plaintext

    postpone_gc()
    hangup = Hangup()

    settings = Settings.from_environment(os.environ)
    given = {"http": http, "grpc": grpc, "server_processes": workers}
    settings = settings.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    configure_logs(settings.log_level)
    # Before the database is touched.
    check_tls_files(settings)
    warn_of_plaintext(settings)
    check_rate_store(settings)
    log = logging.getLogger(__name__)
    with _starting_database(settings):
        from service.runtime import run

        progress = log.info if as_json else note
        run(
            _serving(settings, progress)(
                settings,
                demo=demo,
                hangup=hangup,
                on_ready=partial(announce, settings, as_json=as_json),
                progress=progress,
            )
        )


def _serving(
    settings: Settings, progress: Callable[[str], None]
) -> Callable[..., Coroutine[Any, Any, None]]:
    """The service in this process, or in several."""
    server_processes = _server_processes(settings, progress)
    if server_processes > 1:
        from service.processes import supervisor

        return partial(supervisor.serve, server_processes=server_processes)
    from service.compose import serve

    return serve


def _server_processes(settings: Settings, progress: Callable[[str], None]) -> int:
    """As many as are set, or as help; the latter are told of with the reason."""
    given = settings.server_processes
    if isinstance(given, int):
        return given
    from service.processes.sizing import automatic

    chosen = automatic(settings)
    many = "1 server process" if chosen.processes == 1 else f"{chosen.processes} server processes"
    progress(f"{many}, for {chosen.reason}; --workers sets another number")
    return chosen.processes


def _starting_database(settings: Settings) -> contextlib.AbstractContextManager[None]:
    """An embedded PostgreSQL begins to start, while the modules of the service are imported."""
    if settings.database_url is not None:
        return contextlib.nullcontext()
    from service.postgres.embedded import started_early

    return started_early(settings.data_dir)


def migrate(as_json: Json = False) -> None:
    """Bring the database to this release's tables. `serve` does so too when it starts.

    Safe beside running servers, and to repeat. It lists the workers for whom a new rule counts.
    """
    from core.postgres.migrate import Migrated
    from core.postgres.migrate import migrate as apply
    from service.settings import Settings

    async def work() -> Migrated:
        async with reachable_database(Settings.from_environment(os.environ)) as conninfo:
            return await apply(conninfo)

    migrated = asyncio.run(work())
    if as_json:
        applied = [one.name for one in migrated.applied]
        print_json({"applied": applied, "notes": list(migrated.lines)})
    elif migrated.applied or migrated.left:
        done = [line for one in migrated.applied for line in (f"applied {one.name}", *one.notes)]
        print_text("\n".join([*done, *migrated.left]))
    else:
        print_text("The database is up to date.")


SERVE_EXAMPLES: Final = examples(
    "serve --demo",
    "serve --http 127.0.0.1:0 --json",
    "serve --http 0.0.0.0:8080 --grpc 0.0.0.0:50051 --workers 4",
)
