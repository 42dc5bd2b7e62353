"""The help of commands: typer's plain help, with examples that can be copied."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

PROGRAM: Final = "wepeople-ingest"


def examples(*lines: str) -> str:
    """The epilog of a command: how it is typed, line by line."""
    return "\n".join(f"{PROGRAM} {line}" for line in lines)


class _Help:
    """The parts of help that commands and groups of commands share."""

    help: str | None
    epilog: str | None

    def get_short_help_str(self, limit: int = 0) -> str:
        """The first sentence, all of it: a list of commands wraps."""
        first, stop, _ = " ".join((self.help or "").split()).partition(". ")
        return first + stop.strip()

    def format_epilog(self, context: Any, formatter: Any) -> None:
        """The examples, one a line however long, so that they can be copied."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(_Help, TyperGroup):
    """The commands about one noun."""


class Command(_Help, TyperCommand):
    """One command."""

    def collect_usage_pieces(self, context: Any) -> list[str]:
        """``ORG [APP] TYPE...``: as in the manuals of other programs."""
        pieces = [self.options_metavar or ""]
        for name, parameter in self._arguments(context):
            pieces.append(name if parameter.required else f"[{name}]")
        return pieces

    def format_options(self, context: Any, formatter: Any) -> None:
        """Arguments and options, each with its meaning."""
        arguments = [(name, one.help or "") for name, one in self._arguments(context)]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        options = [
            record
            for parameter in self.get_params(context)
            if parameter.param_type_name == "option"
            and (record := parameter.get_help_record(context)) is not None
        ]
        with formatter.section("Options"):
            formatter.write_dl(options)

    def _arguments(self, context: Any) -> list[tuple[str, Any]]:
        return [
            (str(getattr(parameter, "metavar", None) or parameter.name), parameter)
            for parameter in self.get_params(context)
            if parameter.param_type_name == "argument" and not getattr(parameter, "hidden", False)
        ]
