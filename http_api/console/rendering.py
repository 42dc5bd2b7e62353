"""The console's pages out of their templates, and how they write times, numbers and JSON."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import jinja2
import msgspec
from fastapi import Request, Response
from markupsafe import Markup
from starlette.datastructures import URL

from core import ids
from core.error_codes import REFERENCE_PATH
from core.timestamps import format_us, from_datetime, to_datetime
from http_api.console.security import known_visit
from http_api.documents import CONSOLE_HEADERS, HTML
from http_api.manage.errors import HTTP_STATUS, ManageError, manage_error
from http_api.middleware import RequestContext
from http_api.paths import ASSETS_PATH, CONSOLE_PATH, GUIDE_PATH, SIGN_IN_PATH

MAX_INDENTS: Final = 20_000  # of all lines of a JSON text, two blanks each
_FEW_BRACKETS: Final = 8
_BRACKET_OR_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_UNSAFE_IN_ANCHOR: Final = re.compile(r"[^a-z0-9-]")


def page(
    request: Request, template: str, *, problem: Exception | None = None, **values: Any
) -> Response:
    """Return a page; ``problem`` is why the form that was sent changed nothing.

    Raises the problem if it is no refusal that a person can do something about.
    """
    error = None if problem is None else _known(problem)
    if error is not None:
        RequestContext.of(request.scope).code = error.code
    text = fragment(
        template,
        visit=known_visit(request),
        path=request.url.path,
        problem=None if error is None else error.message,
        **values,
    )
    status = HTTPStatus.OK if error is None else HTTP_STATUS[error.code]
    return Response(text, status, _headers(error), media_type=HTML)


def _known(problem: Exception) -> ManageError:
    error = manage_error(problem)
    if error is None:
        raise problem
    return error


def error_page(request: Request, error: ManageError) -> Response:
    """Return the page that answers a request which was refused."""
    context = RequestContext.of(request.scope)
    context.code = error.code
    status = HTTP_STATUS[error.code]
    text = fragment(
        "error.html.jinja",
        visit=known_visit(request),
        path=request.url.path,
        phrase=status.phrase,
        error=error,
        request_id=context.request_id,
    )
    return Response(text, status, _headers(error), media_type=HTML)


def _headers(error: ManageError | None) -> dict[str, str]:
    if error is None or error.retry_after_seconds is None:
        return CONSOLE_HEADERS
    return CONSOLE_HEADERS | {"Retry-After": str(error.retry_after_seconds)}


def fragment(template: str, **values: Any) -> str:
    """Return what a template makes of the values, as the text of HTML."""
    return _templates().get_template(template).render(**values)


def address(request: Request, **changes: str | None) -> str:
    """Return the address of the page with parameters of its query changed; None removes one."""
    url = URL(scope=request.scope)
    gone = [name for name, value in changes.items() if value is None]
    url = url.remove_query_params(gone) if gone else url
    url = url.include_query_params(**{k: v for k, v in changes.items() if v is not None})
    return f"{url.path}?{url.query}" if url.query else url.path


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("http_api.console", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {
        "assets": ASSETS_PATH,
        "console": CONSOLE_PATH,
        "sign_in": SIGN_IN_PATH,
        "guide": GUIDE_PATH,
        "reference": REFERENCE_PATH,
        "ids": ids,
        "problem": None,
    }
    environment.filters |= {
        "moment": _moment,
        "minute": _minute,
        "number": _number,
        "seconds": _seconds,
        "pretty": _pretty,
    }
    return environment


def _moment(at: datetime | int, form: str = "%d %b %Y %H:%M:%S") -> Markup:
    """Return a time (UTC), of microseconds since the epoch too, exact for tools."""
    moment = to_datetime(at) if isinstance(at, int) else at
    exact = format_us(from_datetime(moment))
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(
        exact, to_datetime(from_datetime(moment)).strftime(form).lstrip("0")
    )


def _minute(at: datetime | int) -> Markup:
    return _moment(at, "%d %b %Y %H:%M")


def _number(value: float) -> str:
    """Return a number as people read it: 1,234,567, or 0.25."""
    if not float(value).is_integer():
        return f"{value:,.4g}" if abs(value) < 1_000 else f"{value:,.0f}"
    return f"{int(value):,}"


def _seconds(seconds: int) -> str:
    """Return a duration in its two largest units: 240 is 4 min."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min" if minutes_left else f"{hours} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{rest} s"


def _pretty(text: str) -> str:
    """Return JSON on several lines; every number keeps its digits.

    Cut JSON is returned as is, and so is JSON whose indentation could be far longer than itself:
    of a kilobyte in a hundred brackets, each number would have a line with two hundred blanks.
    """
    brackets = sum(map(text.count, "[{"))  # no fewer than the levels
    lines = text.count(",") + 2 * brackets
    if lines * _depth(text, brackets) > MAX_INDENTS:
        return text
    try:
        return msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:
        return text


def _depth(text: str, brackets: int) -> int:
    """Return the levels of JSON, or of few brackets their number, which is enough to know."""
    if brackets <= _FEW_BRACKETS:
        return brackets
    depth = deepest = 0
    for part in _BRACKET_OR_TEXT.findall(text):
        if part in "[{":
            depth += 1
            deepest = max(depth, deepest)
        elif part in "]}":
            depth -= 1
    return deepest
