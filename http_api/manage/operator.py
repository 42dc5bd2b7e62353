"""``/operator``: whose token it is."""

from __future__ import annotations

from fastapi import APIRouter

from core.admin import as_json
from http_api.manage import rights
from http_api.manage.security import Desk, Reader

router = APIRouter(tags=["Operator"])


@router.get("/operator")
async def get_operator(operator: Reader, desk: Desk) -> rights.Operator:
    """Tell the operator whose token the request has: a check that it works."""
    return rights.Operator.model_validate(as_json.operator(operator, desk.clock.now_us()))
