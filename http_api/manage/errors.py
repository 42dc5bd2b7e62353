"""The errors of the management API, and the failures of the core that they stand for."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from core.admin.errors import (
    AdministrationError,
    AlreadyExistsError,
    InvalidValueError,
    NotFoundError,
)
from core.admin.operators import TokenRefusedError
from core.error_codes import OperatorCode
from core.postgres.errors import DatabaseUnusableError
from http_api.attempts import TooManyAttemptsError

UNAVAILABLE_RETRY_SECONDS: Final = 5

HTTP_STATUS: Final = {
    OperatorCode.MISSING_TOKEN: HTTPStatus.UNAUTHORIZED,
    OperatorCode.INVALID_TOKEN: HTTPStatus.UNAUTHORIZED,
    OperatorCode.READ_ONLY: HTTPStatus.FORBIDDEN,
    OperatorCode.FORBIDDEN_ORIGIN: HTTPStatus.FORBIDDEN,
    OperatorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    OperatorCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    OperatorCode.CONFLICT: HTTPStatus.CONFLICT,
    OperatorCode.INVALID_VALUE: HTTPStatus.BAD_REQUEST,
    OperatorCode.BODY_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    OperatorCode.TOO_MANY_ATTEMPTS: HTTPStatus.TOO_MANY_REQUESTS,
    OperatorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    OperatorCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class ManageError(Exception):
    """A refusal of an operator's request, with its code and a message for the person."""

    def __init__(
        self, code: OperatorCode, message: str, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds


EXPECTED_ERRORS: Final = (
    ManageError,
    TooManyAttemptsError,
    TokenRefusedError,
    AdministrationError,
    DatabaseUnusableError,
)


def manage_error(error: Exception) -> ManageError | None:
    """Return what a failure of the core is to an operator; None for a fault of the service."""
    match error:
        case ManageError():
            return error
        case TooManyAttemptsError():
            return ManageError(
                OperatorCode.TOO_MANY_ATTEMPTS, str(error), error.retry_after_seconds
            )
        case TokenRefusedError():
            return ManageError(OperatorCode.INVALID_TOKEN, str(error))
        case NotFoundError():
            return ManageError(OperatorCode.NOT_FOUND, str(error))
        case AlreadyExistsError():
            return ManageError(OperatorCode.CONFLICT, str(error))
        case InvalidValueError():
            return ManageError(OperatorCode.INVALID_VALUE, str(error))
        case AdministrationError():
            return ManageError(OperatorCode.CONFLICT, str(error))
        case DatabaseUnusableError():
            return ManageError(OperatorCode.UNAVAILABLE, str(error), UNAVAILABLE_RETRY_SECONDS)
    return None
