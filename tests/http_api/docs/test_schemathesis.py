"""Requests made from the OpenAPI document, valid and not, against the running service.

The document must not promise what the service refuses, nor refuse what the service stores.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CheckContext, CheckFunction, not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from core import limits
from core.error_codes import ErrorCode
from http_api.docs.openapi import OPERATION_CODES, document
from http_api.errors import HTTP_STATUS, METHOD_NOT_ALLOWED
from tests.support.running_service import Addresses
from tests.support.tenant import EVENT_TYPES, UNKNOWN_KEY, event, make_tenant, snapshot

EXAMPLES_PER_OPERATION: Final = 150  # beside the document's own and the boundary cases
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DOCUMENT: Final = document("http://127.0.0.1")

AnyCase = schemathesis.Case[Any]


def _for_this_app() -> dict[str, Any]:
    """The document, with event types to choose from and without worker ids.

    Random ones would be refused, and with them whatever else there is to see about an event.
    """
    known: dict[str, Any] = copy.deepcopy(DOCUMENT)
    schemas = known["components"]["schemas"]
    schemas["IngestEvent"]["properties"]["eventType"]["enum"] = [*EVENT_TYPES, "not.whitelisted"]
    del schemas["Actor"]["properties"]["workerId"]
    return known


api = schemathesis.openapi.from_dict(
    _for_this_app(),
    config=schemathesis.Config.from_dict(
        {
            "generation": {
                # That U+0000 is refused even inside metadata is beyond JSON Schema.
                "allow-x00": False,
                "with-security-parameters": False,
            }
        }
    ),
)


@pytest.fixture(scope="module")
def key(server: Addresses) -> str:
    """A fast key of an organization without a quota."""
    return asyncio.run(make_tenant(server.database_url)).key


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Keeps its connection."""
    with requests.Session() as session:
        yield session


def _validators() -> dict[str, jsonschema_rs.Draft202012Validator]:
    names = {"ingestEvents": "IngestEventBatch", "ingestSnapshot": "IngestSnapshot"}
    return {
        operation: jsonschema_rs.Draft202012Validator(
            {
                "components": DOCUMENT["components"],
                "$ref": f"#/components/schemas/{name}",
            },
            validate_formats=True,
        )
        for operation, name in names.items()
    }


VALIDATORS: Final = _validators()
NAMES_OF_ACTOR: Final = ("workerId", "externalId", "email")
FORM_CODES: Final = {"invalid_body", "missing_actor", "batch_too_large"}
# How messages start that are about a header and not the body.
HEADERS_AT_FAULT: Final = ("Content-Type:", "Idempotency-Key:")


def code_fits(context: CheckContext, response: Response, case: AnyCase) -> None:
    """The code of an error is one of the operation's, and goes with the status."""
    if response.status_code == 405:
        assert case.method != case.operation.method.upper()
        assert case.method not in response.headers["allow"][0].split(", ")
        assert response.json()["error"]["code"] == METHOD_NOT_ALLOWED
    elif response.status_code >= 400:
        code = ErrorCode(response.json()["error"]["code"])
        assert code in OPERATION_CODES[_operation_id(case)]
        assert HTTP_STATUS[code] == response.status_code


def request_id_is_repeated(context: CheckContext, response: Response, case: AnyCase) -> None:
    """The header and the body name the same request, wherever both do; replays keep the first."""
    body = response.json()
    told = body.get("requestId") or body.get("error", {}).get("requestId")
    if told is not None and "idempotency-replayed" not in response.headers:
        assert response.headers["x-request-id"] == [told]


# The years 1 to 9999 are meant in UTC, which a schema cannot say of a time with an offset.
EDGE_OF_TIME: Final = re.compile(r'"(0000-|0001-01-01|9999-12-31)')


def _has_nameless_actor(body: dict[str, Any]) -> bool:
    """Whether an actor has members, but none of those that the service needs one of.

    No schema can say so that generators of clients understand.
    """
    events = body.get("events")
    for item in events if isinstance(events, list) else [body]:
        actor = item.get("actor") if isinstance(item, dict) else None
        if isinstance(actor, dict) and actor and not actor.keys() & {*NAMES_OF_ACTOR}:
            return True
    return False


def verdicts_agree(context: CheckContext, response: Response, case: AnyCase) -> None:
    """The service finds fault with the form of what the document calls invalid, and only that."""
    validator = VALIDATORS.get(_operation_id(case))
    if validator is None or not isinstance(case.body, dict) or response.status_code == 405:
        return
    body = response.json()
    if "error" in body and body["error"]["message"].startswith(HEADERS_AT_FAULT):
        return
    if EDGE_OF_TIME.search(json.dumps(case.body)) or _has_nameless_actor(case.body):
        return
    codes = {one["code"] for one in body.get("results", {}).get("rejected", ())}
    if "error" in body:
        codes.add(body["error"]["code"])
    valid = validator.is_valid(case.body)
    assert valid == (not codes & FORM_CODES), f"valid: {valid}, yet the service says {codes}"


def _operation_id(case: AnyCase) -> str:
    return str(case.operation.definition.raw["operationId"])


def _with_new_idempotency_key(case: AnyCase) -> None:
    # A key that is used again with another body is refused, whatever that body is.
    key = str(case.headers.get("Idempotency-Key", ""))
    if 1 <= len(key) <= limits.MAX_IDEMPOTENCY_KEY_CHARACTERS:
        new = f"{next(_numbers)}-{key}"[: limits.MAX_IDEMPOTENCY_KEY_CHARACTERS]
        case.headers["Idempotency-Key"] = new


_numbers = itertools.count(1)


def _check(
    case: AnyCase,
    server: Addresses,
    key: str | None,
    session: requests.Session,
    *more: CheckFunction,
) -> Response:
    return case.call_and_validate(
        base_url=server.http,
        session=session,
        headers={} if key is None else {"Authorization": f"Bearer {key}"},
        checks=CHECKS,
        additional_checks=[code_fits, request_id_is_repeated, *more],
    )


@api.parametrize()
@settings(
    max_examples=EXAMPLES_PER_OPERATION,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_service_and_document_agree(
    case: AnyCase, server: Addresses, key: str, session: requests.Session
) -> None:
    _with_new_idempotency_key(case)
    _check(case, server, key, session, verdicts_agree)


# --- the tool as it comes ----------------------------------------------------------------------

# Two of its checks alarm for nothing once the tool invents requests: one knows no 413 among the
# refusals, the other does not see that an Idempotency-Key was used before, with another body.
FALSE_ALARMS: Final = "negative_data_rejection,positive_data_acceptance"


@pytest.mark.parametrize(
    "options",
    [
        ["--phases", "examples"],
        ["--phases", "coverage", "--exclude-checks", FALSE_ALARMS],
    ],
    ids=["the document's own examples", "invented requests"],
)
def test_the_tool_as_it_comes_has_no_complaint(
    server: Addresses, key: str, tmp_path: Path, options: list[str]
) -> None:
    program = Path(sys.executable).parent / "schemathesis"
    options = ["--header", f"Authorization: Bearer {key}", "--generation-deterministic", *options]
    command = [str(program), "run", f"{server.http}/openapi.json", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr


# --- what chance does not find -----------------------------------------------------------------

PATHS: Final = {
    operation["operationId"]: (path, method.upper())
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
NOBODY: Final = {"actor": {"workerId": "wrk_01KM2B6F0P7JQ4S8N1TZVXC3GA"}}


def _situation(database_url: str, code: ErrorCode) -> tuple[str | None, dict[str, Any]]:
    """A key, and members that an item must have, so that the code is the answer."""

    async def make() -> tuple[str | None, dict[str, Any]]:
        match code:
            case ErrorCode.MISSING_AUTHORIZATION:
                return None, {}
            case ErrorCode.INVALID_KEY:
                return UNKNOWN_KEY, {}
            case ErrorCode.KEY_REVOKED:
                tenant = await make_tenant(database_url)
                await tenant.revoke()
                return tenant.key, {}
            case ErrorCode.KEY_EXPIRED:
                tenant = await make_tenant(database_url)
                await tenant.expire()
                return tenant.key, {}
            case ErrorCode.PLAN_DISABLED:
                return (await make_tenant(database_url, developer_api=False)).key, {}
            case ErrorCode.QUOTA_EXCEEDED:
                return (await make_tenant(database_url, monthly_quota=0)).key, {}
            case ErrorCode.RATE_LIMITED:
                return (await make_tenant(database_url, key_requests_per_second=1)).key, {}
        members: dict[ErrorCode, dict[str, Any]] = {
            ErrorCode.FORBIDDEN_EVENT_TYPE: {"eventType": "not.whitelisted"},
            ErrorCode.INVALID_BODY: {"timestamp": "yesterday"},
            ErrorCode.BATCH_TOO_LARGE: {"metadata": {"text": "x" * limits.MAX_BODY_BYTES}},
            ErrorCode.MISSING_ACTOR: {"actor": {}},
            ErrorCode.WORKER_NOT_FOUND: NOBODY,
        }
        return (await make_tenant(database_url)).key, members[code]

    return asyncio.run(make())


@pytest.mark.parametrize(
    ("operation_id", "code"),
    [
        (operation_id, code)
        for operation_id, codes in OPERATION_CODES.items()
        for code in codes
        if code is not ErrorCode.INTERNAL_ERROR  # tests/faults has those
    ],
)
def test_refusal_is_documented(
    server: Addresses, session: requests.Session, operation_id: str, code: ErrorCode
) -> None:
    key, members = _situation(server.database_url, code)
    path, method = PATHS[operation_id]
    case: AnyCase = api[path][method].Case()
    if method == "POST":
        body: Any = {"events": [event(**members)]}
        case.body = body if operation_id == "ingestEvents" else snapshot(**members)
        case.media_type = "application/json"
    response = _check(case, server, key, session)
    if code is ErrorCode.RATE_LIMITED:
        for _ in range(20):  # on a busy machine there may be a token again
            if response.status_code == 429:
                break
            response = _check(case, server, key, session)
    assert response.json()["error"]["code"] == code
