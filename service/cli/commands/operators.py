"""``wepeople-ingest operator``: who may use the management API and the console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.help import Command, Group, examples
from service.cli.output import moment, note, print_fields, print_json, print_table, print_text
from service.cli.session import Json, Session, duration_option, now_us, run

if TYPE_CHECKING:
    from core.admin.operators import Operator

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Operators: who may use the management API and the console, by a token.",
)

OperatorName = Annotated[
    str, typer.Argument(metavar="OPERATOR", help="The operator: the id or the name.")
]


@app.command(
    cls=Command,
    epilog=examples("operator create ann --scope write", "operator create grafana --scope read"),
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom the audit log will name.")],
    scope: Annotated[
        str,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="read, or write to change things, too.",
        ),
    ] = "read",
    expires_in: Annotated[
        int | None,
        duration_option("When the token stops working: 12h, 30d. Never, if not given."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an operator and show the token, this once: only its digest is stored."""
    from core import ids
    from core.admin import as_json as records
    from core.admin import operators
    from core.admin.cell_sessions import at_home

    if scope not in ("read", "write"):
        raise typer.BadParameter("it is read or write", param_hint="'--scope'")

    async def work(session: Session) -> tuple[Operator, str]:
        created_us = now_us()
        return await operators.create(
            at_home(session.db, session.cells.actor),
            name,
            "write" if scope == "write" else "read",
            await session.secrets(),
            created_us,
            expires_us=None if expires_in is None else created_us + expires_in * 1_000_000,
        )

    made, token = run(work)
    try:
        if as_json:
            print_json({**records.operator(made, now_us()), "token": token})
        else:
            print_fields({"token": token, **_fields(made)})
    except OSError as error:
        note(
            f"The operator was made but the token could not be shown: {error.strerror or error}. "
            f"Revoke it: wepeople-ingest operator revoke {ids.text(ids.OPERATOR, made.id)}"
        )
        raise typer.Exit(1) from None
    if not as_json:
        note("Keep the token now: it is not stored and cannot be shown again.")


@app.command("list", cls=Command)
def list_operators(as_json: Json = False) -> None:
    """List the operators, those whose tokens no longer work included."""
    from core import ids
    from core.admin import as_json as records
    from core.admin import operators

    async def work(session: Session) -> list[Operator]:
        return await operators.list_all(session.db)

    found = run(work)
    if as_json:
        print_json([records.operator(one, now_us()) for one in found])
    elif not found:
        note("There are no operators yet. Make one: wepeople-ingest operator create NAME")
    else:
        print_table(
            ("ID", "NAME", "SCOPE", "ENDS IN", "STATE", "LAST USE (UTC)", "EXPIRES (UTC)"),
            [
                (
                    ids.text(ids.OPERATOR, one.id),
                    one.name,
                    one.scope,
                    f"…{one.hint}",
                    one.state(now_us()),
                    moment(one.last_used_at) or "never",
                    moment(one.expires_at) or "never",
                )
                for one in found
            ],
        )


@app.command(cls=Command, epilog=examples("operator revoke ann"))
def revoke(operator: OperatorName, as_json: Json = False) -> None:
    """End a token for good, and the sessions of its browsers, at once. Again is harmless."""
    from core.admin import as_json as records
    from core.admin import operators
    from core.admin.cell_sessions import at_home

    async def work(session: Session) -> Operator:
        found = await operators.find(session.db, operator)
        return await operators.revoke(at_home(session.db, session.cells.actor), found, now_us())

    revoked = run(work)
    if as_json:
        print_json(records.operator(revoked, now_us()))
    else:
        print_fields(_fields(revoked))


@app.command(cls=Command, epilog=examples("operator link ann"))
def link(operator: OperatorName, as_json: Json = False) -> None:
    """Print a link to the console that signs in as the operator once, within 15 minutes.

    It begins with WEPEOPLE_PUBLIC_URL, or else with the address in WEPEOPLE_HTTP.
    """
    from core.admin import operators, sign_ins
    from core.admin.operators import TokenRefusedError
    from http_api.paths import sign_in_link
    from service.runtime import public_base_url

    async def work(session: Session) -> str:
        found = await operators.find(session.db, operator)
        try:
            operators.check_active(found, now_us())
        except TokenRefusedError as error:
            raise typer.BadParameter(str(error), param_hint="'OPERATOR'") from None
        secret = await sign_ins.make_link(session.db, found, now_us())
        return sign_in_link(public_base_url(session.settings), secret)

    url = run(work)
    if as_json:
        print_json({"url": url})
    else:
        print_text(url)


def _fields(operator: Operator) -> dict[str, object]:
    from core import ids

    return {
        "id": ids.text(ids.OPERATOR, operator.id),
        "name": operator.name,
        "scope": operator.scope,
        "ends in": f"…{operator.hint}",
        "state": operator.state(now_us()),
        "created (UTC)": moment(operator.created_at),
        "expires (UTC)": moment(operator.expires_at) or "never",
    }
