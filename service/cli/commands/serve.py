"""``wepeople-ingest serve`` and ``migrate``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from service.cli.help import PROGRAM, Command, examples
from service.cli.output import note, print_json, print_json_line, print_text
from service.cli.session import Json, reachable_database

if TYPE_CHECKING:
    from service.runtime import Ready
    from service.settings import Settings

_EVENT: Final = (
    '{"events": [{"eventType": "ticket.resolved", "category": "project_management", '
    '"actor": {"externalId": "crm-user-42"}, "duration": 240, '
    '"metadata": {"ticket_id": "SUP-431"}}]}'
)
_SNAPSHOT: Final = (
    '{"snapshotType": "tickets_open", "actor": {"externalId": "crm-user-42"}, '
    '"metrics": {"open": {"value": 12, "unit": "count"}, "load": "normal"}}'
)


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
        server_processes = _server_processes(settings, progress)
        serving: Callable[..., Coroutine[Any, Any, None]]
        if server_processes > 1:
            from service.processes.supervisor import run
            from service.processes.supervisor import serve as serve_together

            serving = partial(serve_together, server_processes=server_processes)
        else:
            from service.compose import serve as serve_alone

            serving = serve_alone
        run(
            serving(
                settings,
                demo=demo,
                hangup=hangup,
                on_ready=partial(_announce, settings, as_json=as_json),
                progress=progress,
            )
        )


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


def _announce(settings: Settings, ready: Ready, *, as_json: bool) -> None:
    note = _links_note(settings, ready)
    if as_json:
        _print_ready_line(ready)
        if note is not None:
            logging.getLogger(__name__).warning("%s", note)
    else:
        _print_welcome(ready, note, has_tls=settings.grpc_tls_certificate is not None)


def _links_note(settings: Settings, ready: Ready) -> str | None:
    """A word on links that other machines cannot follow, though they reach the service."""
    from service.runtime import is_every_interface
    from service.settings import host_and_port

    host, _ = host_and_port(settings.http)
    if settings.public_url is not None or not is_every_interface(host):
        return None
    return (
        f"Links in answers and pages lead to {ready.http}, which is this machine alone. "
        "Set WEPEOPLE_PUBLIC_URL to the URL at which clients reach the service."
    )


def _print_ready_line(ready: Ready) -> None:
    line = {"event": "ready", "http": ready.http}
    if ready.grpc is not None:
        line["grpc"] = ready.grpc
    if ready.demo is not None and ready.demo.key is not None:
        line["demoKey"] = ready.demo.key
    print_json_line(line)


def _print_welcome(ready: Ready, note: str | None, *, has_tls: bool) -> None:
    from http_api.paths import OVERVIEW_PATH
    from http_api.site import grpcurl

    lines = ["", "WePeople ingest is ready.", "", f"  HTTP  {ready.http}"]
    if ready.grpc is not None:
        lines.append(f"  gRPC  {ready.grpc}")
    lines.append(f"  docs  {ready.http}{OVERVIEW_PATH}")
    if note is not None:
        lines += ["", note]
    if ready.demo is not None:
        command = _command()
        organization = shlex.quote(ready.demo.app.partition("/")[0])
        if ready.demo.key is None:
            lines += [
                "",
                "There is a demo key already, which cannot be shown again. For another one:",
                "",
                f"  {command} key create {shlex.quote(ready.demo.app)}",
            ]
        else:
            lines += ["", "Try it:", "", *_curl_lines(ready.http, ready.demo.key)]
            if ready.grpc is not None:
                lines += ["", *_grpcurl_lines(ready.grpc, ready.demo.key, grpcurl(has_tls=has_tls))]
        lines += ["", "See what came in:", "", f"  {command} events {organization} --follow"]
    print_text("\n".join([*lines, "", "Ctrl-C stops it.", ""]))


def _command() -> str:
    """How this program was called, if its bare name would not be found."""
    return PROGRAM if shutil.which(PROGRAM) else shlex.quote(sys.argv[0])


def _curl_lines(url: str, key: str) -> list[str]:
    authorization = f"-H 'Authorization: Bearer {key}'"
    return [
        f"  curl {url}/api/v1/ingest/ping {authorization}",
        "",
        f"  curl {url}/api/v1/ingest/events {authorization} \\",
        "    -H 'Content-Type: application/json' \\",
        f"    -d '{_EVENT}'",
        "",
        f"  curl {url}/api/v1/ingest/snapshots {authorization} \\",
        "    -H 'Content-Type: application/json' \\",
        f"    -d '{_SNAPSHOT}'",
    ]


def _grpcurl_lines(address: str, key: str, command: str) -> list[str]:
    return [
        f"  {command} -emit-defaults -H 'authorization: Bearer {key}' \\",
        f"    {address} wepeople.ingest.v1.IngestService/Ping",
    ]
