"""The OpenAPI 3.1 document of the HTTP door, served at ``/openapi/v1.yaml``.

Numbers come from :mod:`core.limits`, codes and their meaning from :mod:`core.errors`, statuses from
:mod:`http_api.errors`; only what exists nowhere else is said here.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import yaml

from core import limits
from core.access.api_keys import KEY_PREFIX, KEY_RANDOM_BYTES
from core.error_codes import REFERENCE_PATH
from http_api.docs.openapi.errors import shared_responses
from http_api.docs.openapi.headers import headers
from http_api.docs.openapi.nodes import Node
from http_api.docs.openapi.operations import idempotency_key, paths
from http_api.docs.openapi.schemas import schemas

DOCUMENT_PATH: Final = "/openapi/v1.yaml"


def document(server_url: str) -> Node:
    """The whole document; ``server_url`` is where clients reach this service."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "WePeople Ingest API",
            "version": limits.API_VERSION,
            "summary": "Send what people did, and how they are doing, to WePeople.",
            "description": _introduction(),
        },
        "externalDocs": {
            "description": "The same for reading, with a section for each error code",
            "url": f"{server_url}{REFERENCE_PATH}",
        },
        "servers": [{"url": server_url}],
        "security": [{"bearer": []}],
        "tags": [{"name": "ingest", "description": "Everything an integration needs."}],
        "paths": paths(server_url),
        "components": {
            "securitySchemes": {"bearer": _bearer()},
            "parameters": {"IdempotencyKey": idempotency_key()},
            "headers": headers(),
            "responses": shared_responses(server_url),
            "schemas": schemas(),
        },
    }


@cache
def render(server_url: str) -> bytes:
    """The document as YAML, made once for each server."""
    text = yaml.dump(
        document(server_url), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return text.encode()


class _Dumper(yaml.SafeDumper):
    """Block text for paragraphs; repeats what occurs twice, as few tools resolve YAML anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )


_Dumper.add_representer(str, _represent_text)


def _introduction() -> str:
    minutes = limits.IDEMPOTENCY_WINDOW_SECONDS // 60
    return f"""\
Events are single things that happened and land on the monitoring timeline; a snapshot is the \
current card of metrics of one person. Both are answered only after they are safely stored.

**Versions.** Every answer names its version in `X-API-Version`. Members may be added to answers \
at any time; ignore the ones you do not know. Likewise the service ignores members of requests \
that it does not know.

**Errors.** Each has the same envelope. Switch on `error.code`; `error.message` is for people and \
may be reworded. `error.docsUrl` explains the code. Unknown paths answer `not_found` (404) and \
unsupported methods `method_not_allowed` (405) in that envelope, too.

**Bodies.** UTF-8 JSON of at most {limits.MAX_BODY_BYTES:,} bytes, which may be sent with \
`Content-Encoding: gzip`; the limit counts decompressed bytes. An optional member is left out \
rather than sent as `null`. `NaN`, `Infinity`, numbers beyond a double, U+0000 and unpaired \
surrogates are refused wherever they stand. Of a member sent twice, the last counts.

**Rates.** A key may make {limits.DEFAULT_KEY_REQUESTS_PER_SECOND} requests per second and an \
organization {limits.DEFAULT_ORGANIZATION_REQUESTS_PER_SECOND}, unless it was given other rates. \
`X-RateLimit-Limit` and `X-RateLimit-Remaining` tell the key's budget.

**Retries.** Send an `Idempotency-Key` and repeat the request as often as needed: for {minutes} \
minutes an equal request is answered with the first answer and stores nothing again.
"""


def _bearer() -> Node:
    return {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": f"{KEY_PREFIX} and {2 * KEY_RANDOM_BYTES} lower-case hex digits",
        "description": "An API key. It belongs to one app and is shown once, when it is made.",
    }
