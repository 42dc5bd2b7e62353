"""The portal: pages for people, the documents for tools, and the files that the pages need."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import Final, Protocol

from fastapi import Request, Response
from markupsafe import Markup

from core.error_codes import REFERENCE_PATH
from http_api.docs import openapi, python_client
from http_api.docs.frame import (
    EXPLORER,
    GUIDE,
    OVERVIEW,
    PAGES,
    REFERENCE,
    Page,
    markdown_content,
    render_page,
)
from http_api.docs.reference import reference_content, render_reference
from http_api.docs.search import render_index
from http_api.docs.this_machine import is_from_this_machine, leads_to_this_machine
from http_api.documents import HTML, Document
from http_api.paths import (
    ASSETS_PATH,
    DOCUMENT_PATH,
    GUIDE_PATH,
    JSON_DOCUMENT_PATH,
    OVERVIEW_PATH,
)
from http_api.site import Site

# Where people look for documentation by habit.
REDIRECTS: Final = {"/": OVERVIEW_PATH, "/docs": GUIDE_PATH, "/redoc": REFERENCE_PATH}
_MEDIA_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_OWN_FILES: Final = (
    *("base.css", "base.js", "portal.css", "portal.js"),
    *("favicon.svg", "explorer.js"),
)
_SWAGGER_FILES: Final = ("swagger-ui-bundle.js", "swagger-ui.css")


class Answering(Protocol):
    """A document of the portal."""

    is_public: bool  # the same for everybody, so that pages of any origin may read it

    async def answer(self, request: Request) -> Response:
        """Return the document, or 304."""


class _DemoOverview:
    """The overview, with the demo's key for readers at this machine. No cache keeps it."""

    is_public = False

    def __init__(self, render: Callable[[Site], bytes], site: Site) -> None:
        self._with_key = Document(partial(render, site), HTML)
        self._without_key = Document(partial(render, site._replace(demo_key=None)), HTML)

    async def answer(self, request: Request) -> Response:
        shown = self._with_key if is_from_this_machine(request) else self._without_key
        response = await shown.answer(request)
        response.headers["cache-control"] = "no-store"
        response.headers["cross-origin-resource-policy"] = "same-origin"
        return response


def documents(site: Site) -> dict[str, Answering]:
    """Return all there is to read, by path. None but the overview has a key.

    It has none if clients reach the service elsewhere: then a proxy may ask for strangers.
    """
    common = site._replace(demo_key=None)
    overview: Answering = Document(partial(_overview, common), HTML)
    if site.demo_key is not None and leads_to_this_machine(site.base_url):
        overview = _DemoOverview(_overview, site)
    return {
        DOCUMENT_PATH: Document(partial(openapi.render, site.base_url), "application/yaml"),
        JSON_DOCUMENT_PATH: Document(
            partial(openapi.render_json, site.base_url), "application/json"
        ),
        OVERVIEW_PATH: overview,
        GUIDE_PATH: Document(partial(_guide, common), HTML),
        REFERENCE_PATH: Document(partial(render_reference, common), HTML),
        EXPLORER.path: Document(partial(_explorer, common), HTML),
        f"{ASSETS_PATH}/search.json": Document(partial(_index, common), "application/json"),
        **_python_client(),
        **{
            f"{ASSETS_PATH}/{file.name}": Document(
                file.read_bytes, _MEDIA_TYPES[file.name.rpartition(".")[2]]
            )
            for folder, names in (
                (files("http_api.docs") / "assets", _OWN_FILES),
                (files("fastapi_swagger.resources"), _SWAGGER_FILES),
            )
            for file in (folder / name for name in names)
        },
    }


def _python_client() -> dict[str, Answering]:
    """The wheel of the client, and the page that pip finds it by, if there is one."""
    client = python_client.installed_client()
    if client is None:
        return {}
    return {
        python_client.INDEX_PATH: Document(client.page, HTML),
        client.wheel_path: Document(client.wheel, "application/octet-stream"),
    }


def error_page(status: int, code: str, message: str, request_id: str) -> bytes:
    """Return the page that a browser gets instead of an error's envelope."""
    phrase = HTTPStatus(status).phrase
    page = Page("", phrase, f"{phrase} · WePeople Developers", message)
    links = Markup().join(
        Markup('<li><a href="{}">{}</a> {}</li>').format(one.path, one.name, one.description)
        for one in PAGES
    )
    content = Markup(
        '<h1>{}</h1><p class="lead">{}</p>'
        '<p><code>{}</code> · <code>{}</code></p><ul class="cards">{}</ul>'
    ).format(phrase, message, code, request_id, links)
    return render_page(page, content)


def _overview(site: Site) -> bytes:
    return render_page(OVERVIEW, markdown_content("overview.md", site))


def _guide(site: Site) -> bytes:
    return render_page(GUIDE, markdown_content("guide.md", site))


def _explorer(site: Site) -> bytes:
    return render_page(EXPLORER, markdown_content("explorer.md", site), "explorer.html.jinja")


def _index(site: Site) -> bytes:
    return render_index(
        {
            OVERVIEW: markdown_content("overview.md", site),
            GUIDE: markdown_content("guide.md", site),
            REFERENCE: reference_content(site),
        }
    )
