"""``wepeople-ingest``: the operator's command line.

Exit codes: 0 success; 2 the command line is wrong, whatever the database holds; 1 everything else.
The reason is one line on stderr, the result alone is on stdout.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated, Final, NoReturn

import typer

from service.cli.commands import (
    apps,
    audit,
    bench,
    cells,
    database,
    events,
    identities,
    key_secrets,
    keys,
    operators,
    organizations,
    produce,
    producers,
    rejections,
    serve,
    snapshots,
    usage,
    workers,
)
from service.cli.completion import quoting
from service.cli.entry import FAILED, INTERRUPTED, raising_keyboard_interrupt
from service.cli.help import PROGRAM, Command, Group, examples
from service.cli.output import ReaderGoneError, note

BAD_USAGE: Final = 2
INTERRUPTED_BY_TYPER: Final = 130  # its code after Ctrl-C; ours for that is the one of a failure

app = typer.Typer(
    name=PROGRAM,
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # they show the values of variables, secrets among them
    epilog=examples(
        "serve --demo",
        "org create Acme --quota 100000",
        'app create Acme crm-hub --name "CRM Hub" --allow ticket.resolved',
        "key create crm-hub",
        "events Acme --follow",
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"{PROGRAM} {version(PROGRAM)}\n")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    as_json: Annotated[  # read by the commands' own --json
        bool,
        typer.Option("--json", help="Print JSON, for scripts; every command has this option too."),
    ] = False,
) -> None:
    """Run the WePeople ingest service, and administer it beside running servers.

    ORG and APP are ids, or an organization's name and an app's slug; ORG/SLUG is one app where
    several organizations have the slug. Settings come from the environment: see `serve --help`.
    With --install-completion, Tab completes commands and these names.
    """


app.command(cls=serve.ServeCommand, epilog=serve.SERVE_EXAMPLES)(serve.serve)
app.command(cls=Command)(serve.migrate)
app.add_typer(organizations.app, name="org")
app.add_typer(apps.app, name="app")
keys.app.command("rotate-secret", cls=Command)(key_secrets.rotate_secret)
app.add_typer(keys.app, name="key")
identities.add_to(workers.app)
app.add_typer(workers.app, name="worker")
app.add_typer(producers.app, name="producer")
app.add_typer(operators.app, name="operator")
app.add_typer(cells.app, name="cells")
app.command(cls=Command, epilog=produce.EXAMPLES)(produce.produce)
app.command(cls=Command, epilog=bench.EXAMPLES)(bench.bench)
app.command(cls=Command, epilog=database.EXAMPLES, context_settings=dict(database.CONTEXT))(
    database.database
)
app.command(cls=Command, epilog=usage.EXAMPLES)(usage.usage)
app.command(cls=Command, epilog=events.EXAMPLES)(events.events)
app.command(cls=Command, epilog=rejections.EXAMPLES)(rejections.rejections)
app.command(cls=Command, epilog=snapshots.EXAMPLES)(snapshots.snapshots)
app.command(cls=Command, epilog=audit.EXAMPLES)(audit.audit)


def main() -> None:
    """Run one command and exit; every failure that can be expected is one line on stderr."""
    if sys.stdout is None or sys.stderr is None:
        sys.exit(FAILED)  # closed by the caller, so nothing can be said
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character still gets the rest
            stream.reconfigure(errors="backslashreplace")
    try:
        with raising_keyboard_interrupt(), quoting():
            app()
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as ended:
        if ended.code == INTERRUPTED_BY_TYPER:
            _interrupted()
        raise
    except ReaderGoneError:
        _abandon_stdout()
        sys.exit(0)
    except Exception as error:
        if _quotes_interrupt(error):
            _interrupted()
        explained = _explain(error)
        if explained is None:
            raise
        note(f"{PROGRAM}: {explained}")
        if isinstance(error, OSError):  # perhaps of stdout itself, a full disk
            _abandon_stdout()
        from core.admin.errors import InvalidValueError

        sys.exit(BAD_USAGE if isinstance(error, InvalidValueError) else FAILED)


def _interrupted() -> NoReturn:
    note(INTERRUPTED)
    # Python takes an interrupt of code that was a text (dataclasses make some) for one that nobody
    # handles, and would end by the signal. It forgets that when it runs a text the next time.
    exec("")  # noqa: S102
    sys.exit(FAILED)


def _quotes_interrupt(error: Exception) -> bool:
    """Whether it was an interrupt, of which pydantic's compiled part makes an error of its own."""
    return type(error).__name__ == "SchemaError" and "KeyboardInterrupt" in str(error)


def _explain(error: Exception) -> str | None:
    """The reason for the person; None for an error of the program."""
    import psycopg

    from core.admin.errors import AdministrationError
    from core.errors import IngestError
    from core.failure_log import one_line
    from core.postgres.errors import DatabaseUnusableError, is_connection_loss
    from service.postgres.embedded import EmbeddedPostgresError
    from service.processes.supervisor import ProcessFailedError
    from service.settings import SettingsError

    if isinstance(
        error,
        AdministrationError
        | DatabaseUnusableError
        | EmbeddedPostgresError
        | SettingsError
        | ProcessFailedError,
    ):
        return str(error)
    if isinstance(error, IngestError):
        return error.message
    if isinstance(error, psycopg.errors.QueryCanceled):
        return "the database took too long to answer; ask for less, or try again"
    if isinstance(error, psycopg.Error):
        cause = "was lost" if is_connection_loss(error) else "refused"
        return f"the database {cause}: {one_line(error)}"
    if isinstance(error, OSError):
        where = "" if error.filename is None else f": {error.filename}"
        return f"{error.strerror}{where}" if error.strerror else one_line(error)
    return None


def _abandon_stdout() -> None:
    """Have the interpreter's last flush succeed when nobody can take what is left."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
