"""The parameters of a removal: it is only counted, or confirmed by the name."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from core.admin.errors import InvalidValueError
from http_api.manage.models import Model

# Of a request's time; what is left then is removed by the next one.
REMOVAL_SECONDS: Final = 10.0


class Confirmed(Model):
    """The parameters of what has no way back."""

    confirm: str | None = Field(
        None, description="The name of what is to be gone for good; of an app, its slug."
    )

    def check(self, name: str) -> None:
        """Raises InvalidValueError unless the name is repeated."""
        if self.confirm != name:
            raise InvalidValueError(
                "confirm: it must repeat the name of what is to be gone for good"
            )


class Removing(Confirmed):
    """The parameters of a removal."""

    dry_run: bool = Field(False, description="Only count what would go.")
