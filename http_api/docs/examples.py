"""Examples of requests: each is written once, and shown in every language.

The program around a request is the template of its language. Every one that a page shows is run by
tests/http_api/docs/test_examples.py as a reader would copy it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

import jinja2

from http_api.docs.code import Example
from http_api.paths import EVENTS_PATH, PING_PATH, SNAPSHOTS_PATH
from http_api.site import Site

SERVICE: Final = "wepeople.ingest.v1.IngestService"


class _Endpoint(NamedTuple):
    """The two ways to the same."""

    path: str
    rpc: str


ENDPOINTS: Final = {
    "ping": _Endpoint(PING_PATH, "Ping"),
    "ingestEvents": _Endpoint(EVENTS_PATH, "IngestEvents"),
    "ingestSnapshot": _Endpoint(SNAPSHOTS_PATH, "IngestSnapshot"),
}
# The label of a tab, the language as Pygments names it, and the template.
_LANGUAGES: Final = (
    ("curl", "sh", "curl.jinja"),
    ("Python", "python", "python.jinja"),
    ("TypeScript", "typescript", "typescript.jinja"),
    ("Go", "go", "go.jinja"),
    ("grpcurl", "sh", "grpcurl.jinja"),
)
_NAME: Final = re.compile(r'"([A-Za-z_]\w*)":')
_INDENTATION: Final = re.compile(r"(?m)^ +")


def request_examples(
    site: Site, operation: str, body: str = "", idempotency_key: str | None = None
) -> list[Example]:
    """Return programs that send a request, one a language.

    ``operation`` is its id in the OpenAPI document, ``body`` its JSON as it is to be shown.
    """
    endpoint = ENDPOINTS[operation]
    return [
        Example(
            label,
            language,
            _templates()
            .get_template(template)
            .render(
                url=f"{site.base_url}{endpoint.path}",
                body=body,
                idempotency_key=idempotency_key,
                grpc_target=site.grpc_target,
                grpcurl=site.grpcurl,
                rpc=f"{SERVICE}/{endpoint.rpc}",
            ),
        )
        for label, language, template in _LANGUAGES
    ]


def markdown_request(site: Site) -> Callable[..., str]:
    """Return what ``{% call request(operation) %}body{% endcall %}`` calls on a Markdown page."""

    def request(
        operation: str, idempotency_key: str | None = None, *, caller: Callable[[], str]
    ) -> str:
        fences = [
            f"~~~{one.language} {one.label}\n{one.code}~~~\n"
            for one in request_examples(site, operation, caller().strip(), idempotency_key)
        ]
        return f"::: examples\n{''.join(fences)}:::\n"

    return request


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("http_api.docs", "templates/examples"),
        autoescape=False,  # noqa: S701 - programs; the page escapes them
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "quoted": shlex.quote,
        "unquoted": lambda body: _NAME.sub(r"\1:", body),
        "spaced": lambda body, width: _INDENTATION.sub(lambda found: found[0] * (width // 2), body),
        "in_protobuf": _in_protobuf,
    }
    return environment


def _in_protobuf(body: str, idempotency_key: str | None) -> str:
    """Return the JSON form of the gRPC request that says the same."""
    body = body.replace('"duration":', '"durationSeconds":')
    if idempotency_key is None:
        return body
    return body.replace("{\n", f'{{\n  "idempotencyKey": "{idempotency_key}",\n', 1)
