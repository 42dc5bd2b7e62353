"""``wepeople-ingest key``."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli import completion
from service.cli.help import Command, Group, examples
from service.cli.output import moment, note, print_fields, print_json, print_table
from service.cli.session import AppName, Json, Session, duration_option, now_us, run

if TYPE_CHECKING:
    from uuid import UUID

    from core.admin.keys import ApiKey

STDIN: Final = "-"
MAX_STDIN_CHARACTERS: Final = 65_536

MAX_NAMED_KEYS: Final = 10  # in a note
HEADERS: Final = (
    "ID",
    "ENDS IN",
    "STATE",
    "RATE",
    "CREATED (UTC)",
    "EXPIRES (UTC)",
    "LAST USED (UTC)",
    "APP",
)

KeyName = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="The key's id; or the key itself, if you found one. - reads it from standard "
        "input, which keeps a key out of the list of processes.",
        autocompletion=completion.keys,
    ),
]
ExpiresIn = Annotated[
    int | None,
    duration_option("When it stops working: 90s, 15m, 12h, 30d. Never, if not given."),
]

app = typer.Typer(cls=Group, no_args_is_help=True, help="API keys: what an app authenticates with.")


@app.command(
    cls=Command,
    epilog=examples("key create crm-hub", "key create Acme/crm-hub --expires-in 30d --rate 10"),
)
def create(
    app_name: AppName,
    expires_in: ExpiresIn = None,
    rate: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Requests a second; 60 if not given.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it, this once: only its digest is stored."""
    from core import limits
    from core.admin import keys

    async def work(session: Session) -> tuple[ApiKey, str]:
        created_us = now_us()
        cell, app = await session.app(app_name)
        return await keys.create(
            cell,
            app,
            await session.secrets(),
            created_us,
            expires_us=_later(created_us, expires_in),
            requests_per_second=rate or limits.DEFAULT_KEY_REQUESTS_PER_SECOND,
        )

    made, key = run(work)
    _print_new(made, key, as_json)


@app.command("list", cls=Command)
def list_keys(
    app_name: Annotated[
        str | None,
        typer.Argument(
            metavar="APP",
            help="Only this app's: its id, slug or ORG/SLUG.",
            show_default=False,
            autocompletion=completion.apps,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List keys, those that no longer work included: of one app, or of all."""
    from core import ids
    from core.admin import as_json as records
    from core.admin import key_secrets, keys

    async def work(session: Session) -> tuple[list[ApiKey], set[UUID], int]:
        old = await key_secrets.keys_with_old_digests(session.cells, now_us())
        tokens = await key_secrets.tokens_with_old_digests(session.db, now_us())
        if app_name is None:
            return await keys.list_everywhere(session.cells), old, tokens
        cell, app = await session.app(app_name)
        return await keys.of_app(cell.db, app), old, tokens

    found, old, tokens = run(work)
    if as_json:
        print_json(
            [{**records.key(key, now_us()), "needsPreviousSecret": key.id in old} for key in found]
        )
    elif not found:
        note("There are no keys yet. Make one: wepeople-ingest key create APP")
    else:
        print_table(
            HEADERS,
            [
                (
                    ids.text(ids.KEY, key.id),
                    f"…{key.hint}",
                    key.state(now_us()),
                    f"{key.requests_per_second}/s",
                    moment(key.created_at),
                    moment(key.expires_at) or "never",
                    moment(key.last_used_at) or "never",
                    f"{key.organization_name}/{key.app_slug}",
                )
                for key in found
            ],
        )
    if not as_json:
        _note_old_digests([key.hint for key in found if key.id in old], tokens)


def _note_old_digests(hints: list[str], tokens: int) -> None:
    if hints:
        note(
            f"Keys that need the secret before WEPEOPLE_KEY_SECRET: {len(hints)}, "
            f"…{', …'.join(hints[:MAX_NAMED_KEYS])}. Keep it until they were used or replaced."
        )
    if tokens:
        note(f"Operators' tokens that need it until they are used: {tokens}.")


@app.command(
    cls=Command,
    epilog=examples("key revoke key_01HP3K5V4J3M9NVT8XZKQ9YQ2E", "key revoke - < found.txt"),
)
def revoke(key: KeyName, as_json: Json = False) -> None:
    """End a key for good, on every running server within a second. Again is harmless."""
    from core.admin import keys

    given = _given(key)

    async def work(session: Session) -> ApiKey:
        cell, found = await keys.find(session.cells, given, await session.secrets())
        return await keys.revoke(cell, found, now_us())

    _print(run(work), as_json)


@app.command(cls=Command, epilog=examples("key show key_01HP3K5V4J3M9NVT8XZKQ9YQ2E"))
def show(key: KeyName, as_json: Json = False) -> None:
    """Show what is known of a key: its app, whether it works, until when. Never the key itself."""
    from core.admin import as_json as records
    from core.admin import key_secrets, keys

    given = _given(key)

    async def work(session: Session) -> tuple[ApiKey, bool]:
        _, found = await keys.find(session.cells, given, await session.secrets())
        old = await key_secrets.keys_with_old_digests(session.cells, now_us())
        return found, found.id in old

    found, is_old = run(work)
    if as_json:
        print_json({**records.key(found, now_us()), "needsPreviousSecret": is_old})
    else:
        print_fields(_fields(found))
        if is_old:
            note("It needs the secret before WEPEOPLE_KEY_SECRET until it is used.")


@app.command(
    cls=Command,
    epilog=examples(
        "key rotate key_01HP3K5V4J3M9NVT8XZKQ9YQ2E",
        "key rotate key_01HP3K5V4J3M9NVT8XZKQ9YQ2E --old-ends-in 7d --expires-in 365d",
    ),
)
def rotate(
    key: KeyName,
    old_ends_in: Annotated[
        int | None,
        duration_option(
            "When the old key stops working, if it does not before. 24h, if not given."
        ),
    ] = None,
    expires_in: ExpiresIn = None,
    as_json: Json = False,
) -> None:
    """Replace a key: a new one now, of the same app and rate; the old one ends a day later."""
    from core.admin import key_rotation, keys

    given = _given(key)
    old_seconds = key_rotation.OLD_KEY_SECONDS if old_ends_in is None else old_ends_in

    async def work(session: Session) -> tuple[ApiKey, ApiKey, str]:
        secrets = await session.secrets()
        cell, found = await keys.find(session.cells, given, secrets)
        rotated_us = now_us()
        return await key_rotation.rotate(
            cell,
            found,
            secrets,
            rotated_us,
            old_ends_us=rotated_us + old_seconds * 1_000_000,
            expires_us=_later(rotated_us, expires_in),
        )

    old, new, text = run(work)
    _print_new(new, text, as_json, old)


def _later(since_us: int, seconds: int | None) -> int | None:
    return None if seconds is None else since_us + seconds * 1_000_000


def _print_new(made: ApiKey, key: str, as_json: bool, old: ApiKey | None = None) -> None:
    """Show a new key, this once, and the key that it replaces."""
    from core import ids
    from core.admin import as_json as records

    try:
        if as_json:
            print_json(records.new_key(made, key, now_us(), old))
        else:
            shown = {"key": key, **_fields(made)}
            if old is not None:
                shown["old key"] = ids.text(ids.KEY, old.id)
                shown["old key ends (UTC)"] = moment(old.expires_at)
            print_fields(shown)
    except OSError as error:
        key_id = ids.text(ids.KEY, made.id)
        note(
            f"The key {key_id} was made but could not be shown: {error.strerror or error}. "
            f"Revoke it: wepeople-ingest key revoke {key_id}"
        )
        raise typer.Exit(1) from None
    if not as_json:
        note("Keep the key now: it is not stored and cannot be shown again.")


def _print(key: ApiKey, as_json: bool) -> None:
    from core.admin import as_json as records

    if as_json:
        print_json(records.key(key, now_us()))
    else:
        print_fields(_fields(key))


def _fields(key: ApiKey) -> dict[str, object]:
    from core import ids

    fields: dict[str, object] = {
        "id": ids.text(ids.KEY, key.id),
        "app": f"{key.organization_name}/{key.app_slug}",
        "ends in": f"…{key.hint}",
        "state": key.state(now_us()),
        "rate limit": f"{key.requests_per_second} requests/s",
        "created (UTC)": moment(key.created_at),
        "expires (UTC)": moment(key.expires_at) or "never",
        "last used (UTC)": moment(key.last_used_at) or "never",
    }
    if key.revoked_at is not None:
        fields["revoked (UTC)"] = moment(key.revoked_at)
    return fields


def _given(key: str) -> str:
    """The key or id; from standard input the first one. What is around it is not shown."""
    if key != STDIN:
        return key
    from core import ids
    from core.access.api_keys import KEY_PATTERN

    given = "" if sys.stdin is None else sys.stdin.read(MAX_STDIN_CHARACTERS)
    found = re.search(rf"{KEY_PATTERN}|{ids.KEY}[0-9A-Z]{{26}}", given)
    if found is None:
        raise typer.BadParameter("there is none on standard input", param_hint="'KEY'")
    return found[0]
