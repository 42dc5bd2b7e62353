"""Markdown to HTML: CommonMark with tables, and four things of ours.

- ``{#anchor}`` at the end of a heading sets its anchor, which else is made of its text.
- ``::: examples`` makes tabs of the fences in it. The first word after a fence is its language, the
  rest its label. Tabs, and single fences with a label, stand beside the text.
- ``::: note`` and ``::: warning`` are call-outs.
- Each heading of level 2 or 3 begins a section.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from itertools import groupby
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup
from mdit_py_plugins.container import container_plugin

from http_api.docs.code import Example, code_block, tabs

_SET_ANCHOR: Final = re.compile(r"\s*\{#([a-z0-9_-]+)\}$")
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
_CALL_OUTS: Final = ("note", "warning")


def to_html(text: str) -> Markup:
    """Return a page's Markdown as HTML."""
    parser = MarkdownIt("commonmark", {"xhtmlOut": False}).enable("table")
    for name in ("examples", *_CALL_OUTS):
        container_plugin(parser, name)
    parser.core.ruler.before("inline", "anchors", _set_anchors)
    parser.core.ruler.push("sections", _begin_sections)
    parser.core.ruler.push("examples", _join_examples)
    parser.core.ruler.push("asides", _put_beside)
    parser.add_render_rule("fence", _fence)
    parser.add_render_rule("examples", _examples)
    for name in _CALL_OUTS:
        parser.add_render_rule(f"container_{name}_open", _open_call_out)
        parser.add_render_rule(f"container_{name}_close", _close_call_out)
    parser.add_render_rule("table_open", _open_table)
    parser.add_render_rule("table_close", _close_table)
    return Markup(parser.render(text))  # noqa: S704 - the Markdown is the project's own


def _set_anchors(state: StateCore) -> None:
    taken: set[str] = set()
    for opening, inline in zip(state.tokens, state.tokens[1:], strict=False):
        if opening.type != "heading_open":
            continue
        given = _SET_ANCHOR.search(inline.content)
        if given:
            inline.content = inline.content[: given.start()]
        anchor = given[1] if given else _SEPARATORS.sub("-", inline.content.lower()).strip("-")
        if anchor in taken:
            raise ValueError(f"two sections have the anchor {anchor}")
        taken.add(anchor)
        opening.attrSet("id", anchor)


def _begin_sections(state: StateCore) -> None:
    tokens: list[Token] = []
    is_open = False
    for token in state.tokens:
        if token.type == "heading_open" and token.tag in ("h2", "h3"):
            if is_open:
                tokens.append(Token("section_close", "section", -1, block=True))
            tokens.append(Token("section_open", "section", 1, block=True))
            is_open = True
        tokens.append(token)
    if is_open:
        tokens.append(Token("section_close", "section", -1, block=True))
    state.tokens = tokens


def _join_examples(state: StateCore) -> None:
    """Make one token of each container of examples."""
    tokens: list[Token] = []
    group: Token | None = None
    number = 0
    for token in state.tokens:
        if token.type == "container_examples_open":
            number += 1
            group = Token("examples", "", 0, block=True)
            group.meta = {"name": f"example-{number}", "examples": []}
        elif token.type == "container_examples_close":
            assert group is not None
            tokens.append(group)
            group = None
        elif group is None:
            tokens.append(token)
        else:
            language, _, label = token.info.partition(" ")
            group.meta["examples"].append(Example(label, language, token.content))
    state.tokens = tokens


def _put_beside(state: StateCore) -> None:
    """Put each run of examples into one element that stands beside the text."""
    tokens: list[Token] = []
    for is_beside, run in groupby(state.tokens, _is_beside):
        if is_beside:
            opening = Token("aside_open", "div", 1, block=True, attrs={"class": "aside"})
            tokens += [opening, *run, Token("aside_close", "div", -1, block=True)]
        else:
            tokens += run
    state.tokens = tokens


def _is_beside(token: Token) -> bool:
    return token.type == "examples" or (token.type == "fence" and " " in token.info)


# --- rendering, as markdown-it calls it --------------------------------------------------------


def _fence(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    environment: MutableMapping[str, Any],
) -> str:
    language, _, label = tokens[index].info.partition(" ")
    return code_block(tokens[index].content, language or "text", label or language or "Text") + "\n"


def _examples(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    environment: MutableMapping[str, Any],
) -> str:
    meta = tokens[index].meta
    return tabs(meta["examples"], meta["name"]) + "\n"


def _open_call_out(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    environment: MutableMapping[str, Any],
) -> str:
    name = tokens[index].info.strip()
    return f'<div class="call-out {name}">\n<p class="kind">{name.capitalize()}</p>\n'


def _close_call_out(*_: object) -> str:
    return "</div>\n"


def _open_table(*_: object) -> str:
    return '<div class="wide"><table>\n'


def _close_table(*_: object) -> str:
    return "</table></div>\n"
