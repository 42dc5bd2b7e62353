"""The outline of a page: its sections, by their headings, with the words in each."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

_HEADINGS: Final = {"h1": 1, "h2": 2, "h3": 3}
_VOID: Final = frozenset({"br", "hr", "img", "input", "meta", "link", "wbr"})
_UNREAD: Final = frozenset({"pre", "legend", "label", "noscript"})  # not a section's own words
_CONTAINERS: Final = ("section", "article")


@dataclass
class Section:
    """A heading and what follows it, up to the next."""

    level: int
    anchor: str | None
    title: str = ""
    short: str = ""  # the title in navigation
    text: list[str] = field(default_factory=list)


def outline(content: str) -> list[Section]:
    """Return the sections of a page's HTML, the page's own heading first.

    The anchor of a section is the id of its heading, or of the section or article around it.
    A heading's ``data-short`` is its title in navigation.
    """
    parser = _Parser()
    parser.feed(str(content))
    parser.close()
    for section in parser.sections:
        section.title = " ".join(section.title.split())
        section.short = section.short or section.title
    return parser.sections


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sections: list[Section] = []
        self._open: list[tuple[str, str | None]] = []
        self._in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in _HEADINGS:
            around, of_it = self._open[-1] if self._open else ("", None)
            anchor = given.get("id") or (of_it if around in _CONTAINERS else None)
            short = given.get("data-short") or ""
            self.sections.append(Section(_HEADINGS[tag], anchor, short=short))
            self._in_heading = True
        if tag not in _VOID:
            self._open.append((tag, given.get("id")))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()
        if tag in _HEADINGS:
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        if not self.sections:
            return
        if self._in_heading:
            self.sections[-1].title += data
        elif not any(tag in _UNREAD for tag, _ in self._open):
            self.sections[-1].text.append(data)
