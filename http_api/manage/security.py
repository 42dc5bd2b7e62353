"""The credential of operators' requests, as a dependency of the routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from core.admin import operators
from core.admin.administration import Administration
from core.admin.cell_sessions import CellSessions
from core.admin.operators import Operator
from core.error_codes import OperatorCode
from core.postgres.audit import Actor
from http_api.attempts import Attempts, peer_address
from http_api.manage.errors import ManageError

HAND: Final = "api"  # in the audit log

_bearer = HTTPBearer(
    scheme_name="operatorToken",
    description="An operator's token: `wepeople-ingest operator create NAME --scope read|write`.",
    auto_error=False,
)


def administration(request: Request) -> Administration:
    """Return the way to the cells that the application was made with."""
    found: Administration = request.app.state.administration
    return found


async def reader(
    request: Request,
    desk: Annotated[Administration, Depends(administration)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Operator:
    """Return the operator whose token the request has."""
    if credentials is None:
        raise ManageError(
            OperatorCode.MISSING_TOKEN,
            "The request has no token: send `Authorization: Bearer wp_ops_…`.",
        )
    attempts: Attempts = request.app.state.attempts
    token = credentials.credentials
    with attempts.attempt(peer_address(request), token):
        async with desk.home() as home:
            return await operators.authenticate(home, token, desk.secrets, desk.clock.now_us())


async def writer(operator: Annotated[Operator, Depends(reader)]) -> Operator:
    """Return the operator, who may change things."""
    check_scope(operator)
    return operator


def check_scope(operator: Operator) -> None:
    """Raises :class:`ManageError` if the operator may only read."""
    if operator.scope != "write":
        raise ManageError(
            OperatorCode.READ_ONLY,
            f"The token of the operator {operator.name!r} may read only. Use one that was made "
            "with --scope write.",
        )


async def _cells(
    desk: Annotated[Administration, Depends(administration)],
    operator: Annotated[Operator, Depends(reader)],
) -> AsyncIterator[CellSessions]:
    async with desk.cells(Actor(HAND, operator.name)) as cells:
        yield cells


Desk = Annotated[Administration, Depends(administration)]
Reader = Annotated[Operator, Depends(reader)]
# The sessions go back before the answer is sent: a client can take its time to read it.
Cells = Annotated[CellSessions, Depends(_cells, scope="function")]
READS: Final = [Depends(reader)]
WRITES: Final = [Depends(writer)]
