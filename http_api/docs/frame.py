"""The frame that every page has: head, navigation, and the outline of its content."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import jinja2
from markupsafe import Markup

from core import limits
from core.error_codes import CATALOGUE, REFERENCE_PATH
from core.journal.journal import MAX_ANSWER_SECONDS
from http_api.docs.examples import markdown_request
from http_api.docs.markdown import to_html
from http_api.docs.outline import outline
from http_api.docs.python_client import installed_client
from http_api.errors import HTTP_STATUS
from http_api.paths import (
    ASSETS_PATH,
    DOCUMENT_PATH,
    EXPLORER_PATH,
    GUIDE_PATH,
    JSON_DOCUMENT_PATH,
    OVERVIEW_PATH,
)
from http_api.site import KEY_PLACEHOLDER, Site


class Page(NamedTuple):
    """A page of the portal."""

    path: str
    name: str  # in navigation
    title: str
    description: str


OVERVIEW: Final = Page(
    OVERVIEW_PATH,
    "Overview",
    "WePeople Developers",
    "Send what happened in your software to WePeople: from a key to the first stored event.",
)
GUIDE: Final = Page(
    GUIDE_PATH,
    "Guide",
    "Guide · WePeople Developers",
    "How the WePeople Ingest API works, and how to send events and snapshots reliably.",
)
REFERENCE: Final = Page(
    REFERENCE_PATH,
    "Reference",
    "API reference · WePeople Developers",
    "Endpoints, fields, limits and error codes of the WePeople Ingest API.",
)
EXPLORER: Final = Page(
    EXPLORER_PATH,
    "Explorer",
    "API explorer · WePeople Developers",
    "Send requests to the WePeople Ingest API from the browser.",
)
PAGES: Final = (OVERVIEW, GUIDE, REFERENCE, EXPLORER)


@cache
def templates() -> jinja2.Environment:
    """Return the environment of the HTML templates."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("http_api.docs", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _markdown_pages() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("http_api.docs", "pages"),
        autoescape=False,  # noqa: S701 - Markdown; every value is the project's own
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        # Jinja2's own begin like {#anchor}.
        comment_start_string="{##",
        comment_end_string="##}",
    )


@cache
def markdown_content(file: str, site: Site) -> Markup:
    """Return the HTML of a page whose Markdown is in the folder ``pages``, made once for each site.

    The page and the search index both need it.
    """
    client = installed_client()
    text = (
        _markdown_pages()
        .get_template(file)
        .render(
            base_url=site.base_url,
            grpc_target=site.grpc_target,
            grpcurl=site.grpcurl,
            has_grpc_tls=site.has_grpc_tls,
            key=site.demo_key or KEY_PLACEHOLDER,
            has_demo_key=site.demo_key is not None,
            limits=limits,
            catalogue=CATALOGUE,
            http_status=HTTP_STATUS,
            answer_seconds=MAX_ANSWER_SECONDS,
            request=markdown_request(site),
            client_wheel=None if client is None else client.wheel_path,
        )
    )
    return to_html(text)


def render_page(page: Page, content: Markup, template: str = "frame.html.jinja") -> bytes:
    """Return the page as UTF-8 HTML, with navigation made of its headings."""
    text = (
        templates()
        .get_template(template)
        .render(
            page=page,
            pages=PAGES,
            content=content,
            sections=[one for one in outline(content) if one.anchor and one.level > 1],
            assets=ASSETS_PATH,
            document_path=DOCUMENT_PATH,
            json_document_path=JSON_DOCUMENT_PATH,
            api_version=limits.API_VERSION,
        )
    )
    return text.encode()
