"""The portal: pages for people, and the files that they need."""

from __future__ import annotations

from functools import partial
from importlib.resources import files

from http_api.docs import openapi
from http_api.docs.frame import GUIDE, OVERVIEW, REFERENCE, Page, markdown_content, render_page
from http_api.docs.reference import render_reference
from http_api.documents import Document
from http_api.paths import ASSETS_PATH, DOCUMENT_PATH, JSON_DOCUMENT_PATH
from http_api.site import Site

HTML = "text/html; charset=utf-8"
_ASSETS = {
    "portal.css": "text/css; charset=utf-8",
    "portal.js": "text/javascript; charset=utf-8",
    "favicon.svg": "image/svg+xml",
}


def documents(site: Site) -> dict[str, Document]:
    """Return what is the same for everybody, by path."""
    without_key = site._replace(demo_key=None)
    return {
        DOCUMENT_PATH: Document(partial(openapi.render, site.base_url), "application/yaml"),
        JSON_DOCUMENT_PATH: Document(
            partial(openapi.render_json, site.base_url), "application/json"
        ),
        OVERVIEW.path: Document(
            partial(_markdown_page, OVERVIEW, "overview.md", without_key), HTML
        ),
        GUIDE.path: Document(partial(_markdown_page, GUIDE, "guide.md", without_key), HTML),
        REFERENCE.path: Document(partial(render_reference, without_key), HTML),
        **{
            f"{ASSETS_PATH}/{name}": Document(partial(_asset, name), media_type)
            for name, media_type in _ASSETS.items()
        },
    }


def _markdown_page(page: Page, file: str, site: Site) -> bytes:
    return render_page(page, markdown_content(file, site))


def _asset(name: str) -> bytes:
    return (files("http_api.docs") / "assets" / name).read_bytes()
