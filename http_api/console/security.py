"""The session of a browser, and the proof that a form is of it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request

from core.admin import sign_ins
from core.admin.administration import Administration
from core.admin.cell_sessions import CellSessions
from core.admin.errors import InvalidValueError
from core.admin.operators import Operator, TokenRefusedError
from core.error_codes import OperatorCode
from core.postgres.audit import Actor
from http_api.attempts import Attempts, peer_address
from http_api.manage.bounds import MAX_BODY_BYTES
from http_api.manage.errors import ManageError
from http_api.manage.security import administration, check_scope

COOKIE: Final = "wp_console"
HAND: Final = "console"  # in the audit log
MAX_FORM_FIELDS: Final = 100
FORM_SECONDS: Final = 10.0  # for its bytes to arrive
_FORM_TOKEN: Final = "csrf"  # noqa: S105 -- the name of a field


class SignInNeededError(Exception):
    """A request without a session that goes on; the message says why."""


class Visit(NamedTuple):
    """A request of a signed-in operator. ``secret``: that of the session."""

    desk: Administration
    operator: Operator
    secret: str

    @property
    def can_write(self) -> bool:
        """Whether the operator may change things."""
        return self.operator.scope == "write"

    @property
    def form_token(self) -> str:
        """The text that each form of the session carries, and that no other site knows."""
        return hmac.new(self.secret.encode(), b"console form", hashlib.sha256).hexdigest()

    def cells(self) -> AbstractAsyncContextManager[CellSessions]:
        """The sessions of all cells, for the operator's work."""
        return self.desk.cells(Actor(HAND, self.operator.name))


class Form(NamedTuple):
    """A form of the session, as it was sent."""

    visit: Visit
    fields: Mapping[str, str]

    def text(self, name: str) -> str:
        """The text of a field without blanks at its ends; empty if it is missing."""
        return self.fields.get(name, "").strip()

    def integer(self, name: str, default: int | None = None) -> int:
        """The number in a field; InvalidValueError if it is none, or is missing without default."""
        given = self.text(name).replace(",", "")
        if not given and default is not None:
            return default
        # isdecimal: no sign, and no spelling but digits. No bound that is checked has more.
        if not (given.isascii() and given.isdecimal() and len(given) <= 18):
            raise InvalidValueError(f"{name.replace('_', ' ')}: must be a whole number")
        return int(given)


async def reader(
    request: Request, desk: Annotated[Administration, Depends(administration)]
) -> Visit:
    """Return the visit of a signed-in operator; :class:`SignInNeededError` without a session."""
    secret = request.cookies.get(COOKIE)
    if not secret:
        raise SignInNeededError("Sign in to use the console.")
    attempts: Attempts = request.app.state.session_attempts
    try:
        with attempts.attempt(peer_address(request), secret):
            async with desk.home() as home:
                operator = await sign_ins.operator_of(home, secret, desk.clock.now_us())
    except TokenRefusedError as error:
        raise SignInNeededError(f"Sign in: {error}.") from error
    visit = Visit(desk, operator, secret)
    request.state.visit = visit  # for the frame of its error page
    return visit


def known_visit(request: Request) -> Visit | None:
    """Return the visit of the request, if its session is known by now."""
    return getattr(request.state, "visit", None)


async def sent_form(request: Request, visit: Annotated[Visit, Depends(reader)]) -> Form:
    """Return the form of the request, which a page of this session has sent."""
    check_origin(request)
    fields = await read_fields(request)
    # Bytes: compare_digest refuses other than ASCII in texts.
    if not hmac.compare_digest(fields.get(_FORM_TOKEN, "").encode(), visit.form_token.encode()):
        raise ManageError(
            OperatorCode.FORBIDDEN_ORIGIN,
            "The form is not of this session. Open its page again, and send it from there.",
        )
    return Form(visit, fields)


async def changing_form(form: Annotated[Form, Depends(sent_form)]) -> Form:
    """Return the form, whose operator may change things."""
    check_scope(form.visit.operator)
    return form


def check_origin(request: Request) -> None:
    """Raises :class:`ManageError` if a page of another site has sent the request.

    Browsers tell, in one of two headers. What is no browser has nobody's cookie.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:
        own = {request.headers.get("host"), urlsplit(request.app.state.base_url).netloc}
        is_own = origin is None or urlsplit(origin).netloc in own
    if not is_own:
        raise ManageError(
            OperatorCode.FORBIDDEN_ORIGIN,
            "A page of another site has sent this form, so it was not looked at.",
        )


async def read_fields(request: Request) -> dict[str, str]:
    """Return the fields of a form, of which the last counts if there are several of a name."""
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise ManageError(
                        OperatorCode.BODY_TOO_LARGE, f"The form is over {MAX_BODY_BYTES:,} bytes."
                    )
    except TimeoutError:
        raise InvalidValueError("the form arrives too slowly") from None
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, errors="strict"
        )
    except ValueError:
        raise InvalidValueError("the form is not one that a browser sends") from None
    if any("\0" in value for _, value in pairs):
        raise InvalidValueError("the form has a character that cannot be stored")
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


Reader = Annotated[Visit, Depends(reader)]
SentForm = Annotated[Form, Depends(sent_form)]
ChangingForm = Annotated[Form, Depends(changing_form)]
