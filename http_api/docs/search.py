"""The search index: the sections of the pages with their words, as one small JSON document.

The pages' script reads it when somebody searches (assets/portal.js).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from markupsafe import Markup

from http_api.docs.frame import Page
from http_api.docs.outline import outline


def render_index(contents: Mapping[Page, Markup]) -> bytes:
    """Return the index of the pages with that content."""
    return msgspec.json.encode(
        [
            {
                "page": page.name,
                "title": section.title,
                "url": f"{page.path}#{section.anchor}" if section.anchor else page.path,
                "text": " ".join("".join(section.text).split()),
            }
            for page, content in contents.items()
            for section in outline(content)
        ]
    )
