"""Commands that remove something: they say what goes, and ask for it by its name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli.output import note, print_fields, print_json

if TYPE_CHECKING:
    from core.admin.removal import Extent

MAX_ANSWER_CHARACTERS: Final = 1_000

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")]


def ask_for_name(name: str, gone: Mapping[str, object], do: str = "remove it") -> None:
    """Have the person type the name of what is to be gone; ends the command if it is another.

    ``gone``: what goes with it. ``do``: what is to be done. Without a terminal it is wrong usage: a
    script says --yes.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise typer.BadParameter(
            "this is confirmed at a terminal, or by this in a script", param_hint="'--yes'"
        )
    for what, count in gone.items():
        note(f"{what}: {count}")
    note(f"Type {name} to {do} for good:")
    if sys.stdin.readline(MAX_ANSWER_CHARACTERS).rstrip("\r\n") != name:
        note("That is not the name: nothing was changed.")
        raise typer.Exit(1)


def print_removal(
    named: dict[str, object], extent: Extent, as_json: bool, *, is_done: bool
) -> None:
    """Show what has gone, or what would go."""
    if as_json:
        from core.admin import as_json as records

        print_json({**named, "removed": is_done, **records.extent(extent)})
    else:
        print_fields({**named, "removed": "yes" if is_done else "no", **extent_fields(extent)})


def extent_fields(found: Extent) -> dict[str, object]:
    """The extent of a removal, for people; the largest numbers are not counted out."""
    return {
        "apps": f"{found.apps:,}",
        "keys": f"{found.keys:,}, of which {found.working_keys:,} work",
        "workers": f"{found.workers:,}",
        "producers": f"{found.producers:,}",
        "snapshots": _counted(found.snapshots),
        "events": _counted(found.events),
    }


def _counted(number: int) -> str:
    from core.admin.removal import MAX_COUNTED

    return f"{number:,}" if number < MAX_COUNTED else f"{MAX_COUNTED:,} or more"
