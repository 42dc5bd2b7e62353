"""``/operator``: whose token it is."""

from __future__ import annotations

from fastapi import APIRouter

from core import ids
from http_api.manage.models import OperatorOut
from http_api.manage.security import Reader

router = APIRouter(tags=["Operator"])


@router.get("/operator")
async def get_operator(operator: Reader) -> OperatorOut:
    """Tell the operator whose token the request has: a check that it works."""
    return OperatorOut(
        id=ids.text(ids.OPERATOR, operator.id),
        name=operator.name,
        scope=operator.scope,
        ends_in=operator.hint,
        expires_at=operator.expires_at,
    )
