"""``/console/sign-in`` and ``/console/sign-out``: the session of a browser begins and ends."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from core.admin import operators, sign_ins
from core.admin.administration import Administration
from core.admin.operators import TokenRefusedError
from core.postgres.sessions import Connection
from http_api.attempts import Attempts, TooManyAttemptsError, peer_address
from http_api.console.rendering import page
from http_api.console.security import COOKIE, SentForm, check_origin, read_fields
from http_api.manage.security import administration
from http_api.paths import CONSOLE_PATH, READING, SIGN_IN_PATH, is_below

FIRST_PAGE: Final = f"{CONSOLE_PATH}/organizations"
_SIGN_IN: Final = "/sign-in"
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9/_.-]*")

router = APIRouter()


@router.api_route(_SIGN_IN, methods=READING)
async def sign_in_page(request: Request) -> Response:
    """Show the form for a token, or the button of a link that signs in once."""
    query = request.query_params
    return page(
        request,
        "sign_in.html.jinja",
        link=query.get("link", ""),
        # Only a person's push follows a link of another site: it could be anybody's session.
        sends_itself=request.headers.get("sec-fetch-site") in (None, "none", "same-origin"),
        next=_wanted(query.get("next", "")),
    )


@router.post(_SIGN_IN)
async def sign_in(
    request: Request, desk: Annotated[Administration, Depends(administration)]
) -> Response:
    """Begin a session by a token or a link, and go on to the page that was wanted."""
    check_origin(request)
    fields = await read_fields(request)
    wanted = _wanted(fields.get("next", ""))
    attempts: Attempts = request.app.state.attempts
    link, token = fields.get("link", ""), fields.get("token", "").strip()
    try:
        with attempts.attempt(peer_address(request), link or token):
            async with desk.home() as home:
                secret = await _begin(home, desk, link, token)
    except (TokenRefusedError, TooManyAttemptsError) as error:
        return page(request, "sign_in.html.jinja", link="", next=wanted, problem=error)
    request.app.state.session_attempts.note_known(secret)
    answer = RedirectResponse(wanted or FIRST_PAGE, 303)
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=sign_ins.SESSION_SECONDS,
        path=CONSOLE_PATH,
        secure=_is_secure(request),
        httponly=True,
        samesite="strict",
    )
    return answer


async def _begin(home: Connection, desk: Administration, link: str, token: str) -> str:
    now_us = desk.clock.now_us()
    if link:
        operator = await sign_ins.use_link(home, link, now_us)
    else:
        operator = await operators.authenticate(home, token, desk.secrets, now_us)
    return await sign_ins.begin_session(home, operator, now_us)


@router.post("/sign-out")
async def sign_out(form: SentForm) -> Response:
    """End the session."""
    visit = form.visit
    async with visit.desk.home() as home:
        await sign_ins.end_session(home, visit.secret)
    answer = RedirectResponse(SIGN_IN_PATH, 303)
    answer.delete_cookie(COOKIE, path=CONSOLE_PATH, httponly=True, samesite="strict")
    return answer


def _wanted(given: str) -> str:
    """Return the page to go on to, if it is one of the console; else nothing."""
    path = given.partition("?")[0]
    # A browser takes dots, also escaped ones, and backslashes as ways to elsewhere.
    is_plain = _PLAIN_PATH.fullmatch(path) is not None and ".." not in path
    return given if is_plain and is_below(path, CONSOLE_PATH) and path != SIGN_IN_PATH else ""


def _is_secure(request: Request) -> bool:
    """Whether browsers come by https, to this server or to a proxy in front of it."""
    return request.url.scheme == "https" or request.app.state.base_url.startswith("https:")
