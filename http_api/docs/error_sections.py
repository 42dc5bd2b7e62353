"""What the reference says of each error: the catalogue, its statuses, and an example answer."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from core.error_codes import CATALOGUE, OPERATOR_ERRORS, STREAM_REASONS, ErrorCode, Retry
from http_api.docs.examples import ENDPOINTS
from http_api.docs.grpc_contract import contract
from http_api.docs.openapi import EVENT_CODES, OPERATION_CODES, Node
from http_api.errors import HTTP_STATUS, METHOD_NOT_ALLOWED, NOT_FOUND
from http_api.manage.errors import HTTP_STATUS as OPERATOR_STATUS
from http_api.paths import PING_PATH


class ErrorSection(NamedTuple):
    """The section of one error code."""

    code: str
    status: int
    meaning: str
    facts: Mapping[str, str]
    example: Node | None


def error_sections(document: Node) -> list[ErrorSection]:
    """Return a section for each code; the examples are those of the OpenAPI document."""
    examples = _examples(document)
    return [
        *(
            _section(
                code.value,
                HTTP_STATUS[code],
                known.meaning,
                {"Retry": _sentence(known.retry), "What to do": known.remedy, "Where": where(code)},
                examples[code.value],
            )
            for code, known in CATALOGUE.items()
        ),
        _section(
            NOT_FOUND,
            HTTPStatus.NOT_FOUND,
            "There is nothing at this path.",
            {
                "Retry": _sentence(Retry.NEVER),
                "What to do": "Compare the path with those of the endpoints; all of them start "
                f"with `{PING_PATH.rpartition('/')[0]}/`.",
                "Where": "Any other path or method.",
            },
        ),
        _section(
            METHOD_NOT_ALLOWED,
            HTTPStatus.METHOD_NOT_ALLOWED,
            "The path exists, but not with this method.",
            {
                "Retry": _sentence(Retry.NEVER),
                "What to do": "Use one of the methods that the `Allow` header names.",
                "Where": "Any path, with a method it does not have.",
            },
        ),
    ]


def stream_ends() -> list[tuple[str, str, Mapping[str, str]]]:
    """Return the code, the meaning and the facts of each end that a stream alone can have."""
    return [
        (reason.value, meaning, {**_grpc_status(reason.value), "What to do": remedy})
        for reason, (meaning, remedy) in STREAM_REASONS.items()
    ]


def operator_errors() -> list[tuple[str, str, Mapping[str, str]]]:
    """Return the code, the meaning and the facts of each error that operators alone can meet."""
    shared = {*ErrorCode, NOT_FOUND, METHOD_NOT_ALLOWED}  # have a section
    return [
        (
            code.value,
            meaning,
            {
                "HTTP": f"{OPERATOR_STATUS[code].value} {OPERATOR_STATUS[code].phrase}",
                "What to do": remedy,
            },
        )
        for code, (meaning, remedy) in OPERATOR_ERRORS.items()
        if code.value not in shared
    ]


def where(code: ErrorCode) -> str:
    """Return which endpoints answer with the code."""
    names = [
        f"`{endpoint.path.rpartition('/')[2]}`"
        for operation, endpoint in ENDPOINTS.items()
        if code in OPERATION_CODES[operation]
    ]
    said = "All endpoints." if len(names) == len(ENDPOINTS) else f"{' and '.join(names)}."
    return f"{said} Also for single events of a batch." if code in EVENT_CODES else said


def _section(
    code: str, status: int, meaning: str, facts: Mapping[str, str], example: Node | None = None
) -> ErrorSection:
    statuses = {"HTTP": f"{int(status)} {HTTPStatus(status).phrase}", **_grpc_status(code)}
    return ErrorSection(code, status, meaning, {**statuses, **facts}, example)


def _grpc_status(code: str) -> Mapping[str, str]:
    names = contract().statuses.get(code)
    if names is None:
        return {}
    first, *passing = names
    other = "".join(f", or {name} if the failure is one that passes" for name in passing)
    return {"gRPC": f"{first}{other}"}


def _sentence(retry: Retry) -> str:
    return f"{retry.value[0].upper()}{retry.value[1:]}."


def _examples(document: Node) -> dict[str, Node]:
    """The first example of each code among the responses."""
    found: dict[str, Node] = {}
    for response in document["components"]["responses"].values():
        for code, example in response["content"]["application/json"]["examples"].items():
            found.setdefault(code, example["value"])
    return found
