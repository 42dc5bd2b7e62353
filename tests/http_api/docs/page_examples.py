"""The examples on a page as a reader finds them: read from its HTML, not from where it is made."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import NamedTuple

VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "wbr"})


class PageExample(NamedTuple):
    """What is copied from one tab."""

    section: str  # the anchor of the heading above it
    label: str
    code: str


def page_examples(html: str) -> list[PageExample]:
    """Return every example, in the order of the page."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    return parser.found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[PageExample] = []
        self._section = ""
        self._open: list[str] = []
        self._examples_depth: int | None = None
        self._labels: list[str] = []
        self._codes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("h1", "h2", "h3") and given.get("id"):
            self._section = given["id"] or ""
        if "examples" in (given.get("class") or "").split():
            self._examples_depth = len(self._open)
            self._labels, self._codes = [], []
        if self._examples_depth is not None and tag in ("label", "code"):
            (self._labels if tag == "label" else self._codes).append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()
        if len(self._open) == self._examples_depth:
            self.found += [
                PageExample(self._section, label, code)
                for label, code in zip(self._labels, self._codes, strict=True)
            ]
            self._examples_depth = None

    def handle_data(self, data: str) -> None:
        if self._examples_depth is None:
            return
        if "code" in self._open[self._examples_depth :]:
            self._codes[-1] += data
        elif "label" in self._open[self._examples_depth :]:
            self._labels[-1] += data
