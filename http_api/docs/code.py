"""Code on pages: coloured, and in tabs that need no script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

_FORMATTER: Final = HtmlFormatter(nowrap=True)
_CHECKED: Final = Markup(" checked")


class Example(NamedTuple):
    """The same thing done in one language."""

    label: str  # of its tab
    language: str  # as Pygments names it
    code: str


def code_block(code: str, language: str, label: str) -> Markup:
    """Return code as HTML, under its label. It can be focused, so that a keyboard scrolls it."""
    coloured = highlight(code, get_lexer_by_name(language), _FORMATTER).rstrip("\n")
    return Markup(
        '<div class="code" data-label="{0}"><pre tabindex="0" role="group" aria-label="{0}">'
        '<code class="language-{1}">{2}</code></pre></div>'
    ).format(label, language, Markup(coloured))  # noqa: S704 - Pygments escapes


def tabs(examples: Sequence[Example], name: str) -> Markup:
    """Return examples as tabs, of which the first is open; ``name`` is unique on its page.

    They are radio buttons, which a browser switches by itself.
    """
    parts = [
        Markup(
            '<input type="radio" name="{0}" id="{0}-{1}"{2}><label for="{0}-{1}">{3}</label>'
            '<div class="panel">{4}</div>'
        ).format(
            name,
            number,
            _CHECKED if number == 0 else "",
            example.label,
            code_block(example.code, example.language, f"Example in {example.label}"),
        )
        for number, example in enumerate(examples)
    ]
    return Markup(
        '<fieldset class="examples"><legend class="hidden">Language of the example</legend>{}'
        "</fieldset>"
    ).format(Markup().join(parts))
